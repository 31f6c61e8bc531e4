"""`exitkit` with a scheduler that keeps batches apart: each goes through all stages alone.

python -m rivals.apart serve BUNDLE ...
"""

import functools

from exitkit.cli import main
from exitkit.serve import service
from exitkit.serve.scheduling.scheduler import Scheduler

if __name__ == "__main__":
    service.Scheduler = functools.partial(Scheduler, rebatch=False)  # type: ignore[assignment,misc]
    main.main()
