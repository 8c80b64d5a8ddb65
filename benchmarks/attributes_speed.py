"""How long the perceptual distance and the perceived age and gender take: `python benchmarks/attributes_speed.py`."""

import time

import torch

from dvlatent import load

ROUNDS = 6


def best_ms(act) -> float:
    """The shortest of several rounds, in milliseconds: other processes disturb it least."""
    act()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        act()
        times.append(1000 * (time.perf_counter() - start))
    return min(times)


def main() -> None:
    distance, attributes = load("perceptual"), load("attributes")
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.rand(1, 3, 256, 256, generator=rng) * 2 - 1 for _ in range(2))
    with torch.no_grad():
        target = distance.features(b)

    def forward() -> None:
        with torch.no_grad():
            distance(a, target)

    def backward() -> None:
        distance(a.clone().requires_grad_(), target).sum().backward()

    print(f"{torch.get_num_threads()} threads")
    print(f"distance at 256 px to a kept target   forward {best_ms(forward):6.1f} ms   forward and backward {best_ms(backward):6.1f} ms")
    for size, batch in ((256, 1), (256, 8), (256, 32), (1024, 1), (1024, 8)):
        image = torch.rand(batch, 3, size, size, generator=rng) * 2 - 1
        took = best_ms(lambda image=image: attributes(image)) / batch
        print(f"attributes of {batch:2} faces at {size:4} px   {took:6.1f} ms per face")


if __name__ == "__main__":
    main()
