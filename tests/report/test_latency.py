import numpy as np

from exitkit.report import latency


def test_all_contestants_see_the_same_images_alone_and_in_turns() -> None:
    seen: list[tuple[str, float]] = []
    images = np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1)

    def contestant(name: str):
        def answer(image: np.ndarray) -> None:
            assert image.shape == (1, 1, 1, 1)
            seen.append((name, float(image[0, 0, 0, 0])))

        return answer

    found = latency.measure({"a": contestant("a"), "b": contestant("b")}, images, rounds=2)
    measured = seen[-2 * 2 * 40 :]  # what comes before is warm-up
    expected = [(name, float(i)) for _ in range(2) for name in "ab" for i in range(40)]
    assert measured == expected
    assert (found["a"].images, found["a"].rounds) == (40, 2)


def test_the_median_over_rounds_forgives_one_slow_round() -> None:
    # Three rounds of two images: the medians are 2 and 5 ms, whatever the 100 says.
    timing = latency._timing(np.array([[1.0, 5.0], [2.0, 5.0], [100.0, 5.0]]))
    assert (timing.mean_ms, timing.p50_ms) == (3.5, 3.5)
    assert timing.p95_ms == 2 + 0.95 * 3


def test_a_small_budget_takes_fewer_images_evenly_spread() -> None:
    seen: list[float] = []
    images = np.arange(500, dtype=np.float32).reshape(500, 1, 1, 1)
    found = latency.measure({"a": lambda x: seen.append(float(x[0, 0, 0, 0]))}, images, 1, 0.0)
    assert found["a"].images == latency.LEAST_IMAGES
    chosen = seen[-latency.LEAST_IMAGES :]
    assert (chosen[0], chosen[-1]) == (0.0, 499.0)
