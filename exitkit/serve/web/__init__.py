"""HTTP: routes, error bodies, limits of bodies, and the page. What they do lies beside them."""
