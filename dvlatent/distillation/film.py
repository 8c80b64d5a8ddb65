"""The faces of a film, followed from frame to frame and edited without flicker. Taught in notebook 07.

A film is read twice. The first time its faces are followed. Then it is known where each comes from and goes to: positions are smoothed
without lag, short gaps are bridged, and the edit fades out before a face is lost. The second time the faces are edited.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from dvlatent import images
from dvlatent.distillation.filter import Steps, in_tone, parts
from dvlatent.distillation.filter import edit as edit_of
from dvlatent.errors import NoFace
from dvlatent.faces.align import Aligner, Alignment, crop, square
from dvlatent.faces.identity import SAME_PERSON_BELOW
from dvlatent.faces.landmarks import SIZE_PX
from dvlatent.types import Identity

SEARCH_S = 0.33  # seconds between searches of the whole frame; between them known faces are followed
BRIDGE_S = 0.4  # a face that is not seen for so long has gone
FADE_S = 0.25  # how long an edit takes to appear or to leave, except where the scene changes
SMOOTH_S = 0.3  # positions: a parabola through so many seconds (Savitzky and Golay 1964)
SCENE = 20  # mean difference of neighboring frames, in levels of 255, from which the scene has changed
STILL_A_FACE = 0.0  # the detector's confidence in a face that is followed
ALIKE = 0.5  # correlation with the face before a gap from which the gap still shows it
CHUNK = 4  # frames whose faces the networks edit at once

Frame = UInt8[Tensor, "1 3 height width"]


@dataclass(eq=False)
class Track:
    """One face in neighboring frames; frames that repeat the one before do not count."""

    first: int  # the frame in which it was found
    size: tuple[int, int]  # height and width of the frames
    squares: list[np.ndarray] = field(default_factory=list)  # [4, 2] for each frame, as in `Alignment.quad`
    seen: list[bool] = field(default_factory=list)
    thumbnails: list[np.ndarray] = field(default_factory=list)  # what was in the square, 16x16 gray values
    people: dict[int, Tensor] = field(default_factory=dict)  # frame -> who it is, [128]
    opens: bool = False  # the scene or the film begins with it
    closes: bool = False
    fps: float = 25.0  # frames a second that are not repeats

    @property
    def end(self) -> int:
        """The first frame after it."""
        return self.first + len(self.squares)

    @property
    def who(self) -> Tensor:
        """The mean of what the identity network said."""
        return torch.stack(list(self.people.values())).mean(0)

    def add(self, at: np.ndarray, thumbnail: np.ndarray, seen: bool) -> None:
        """One more frame."""
        self.squares.append(at)
        self.thumbnails.append(thumbnail)
        self.seen.append(seen)

    def cut(self, frame: int) -> Track:
        """Keep what is before a frame; the rest is a track of its own."""
        at = frame - self.first
        parts = (self.squares[at:], self.seen[at:], self.thumbnails[at:], {k: v for k, v in self.people.items() if k >= frame})
        self.squares, self.seen, self.thumbnails = self.squares[:at], self.seen[:at], self.thumbnails[:at]
        self.people = {k: v for k, v in self.people.items() if k < frame}
        rest = Track(frame, self.size, *parts, opens=True, closes=self.closes)
        self.closes = True
        return rest

    def positions(self) -> Iterator[tuple[int, Alignment, float]]:
        """For every frame in which the edit is seen: the frame, the smoothed position, and the weight of the edit from 0 to 1."""
        from scipy.ndimage import distance_transform_edt
        from scipy.signal import savgol_filter

        seen, squares = np.array(self.seen), np.array(self.squares)
        frames = np.arange(len(seen))
        flat = np.stack([np.interp(frames, frames[seen], column[seen]) for column in squares.reshape(-1, 8).T], 1)  # gaps are bridged
        window = min(2 * round(SMOOTH_S * self.fps / 2) + 1, len(flat) - (len(flat) + 1) % 2)
        if window > 3:
            flat = savgol_filter(flat, window, 2, axis=0)
        before = np.maximum.accumulate(np.where(seen, frames, 0))
        shown = [seen[i] or _correlation(self.thumbnails[i], self.thumbnails[before[i]]) > ALIKE for i in frames]
        lit = np.array([self.opens, *shown, self.closes])
        away = lit * np.inf if lit.all() else distance_transform_edt(lit)  # frames to the nearest one without the edit
        weights = np.minimum(away[1:-1] / max(FADE_S * self.fps, 1), 1)
        for frame, quad, weight in zip(frames, flat.reshape(-1, 4, 2), weights, strict=True):
            if weight > 0:
                yield self.first + int(frame), Alignment(quad, self.size), float(weight)


@dataclass(eq=False)
class Person:
    """The tracks of one person, in the order of time."""

    tracks: list[Track]

    @property
    def sides(self) -> np.ndarray:
        """How large the square is in each frame in which the face is seen, in pixels."""
        quads = [quad for track in self.tracks for quad, seen in zip(track.squares, track.seen, strict=True) if seen]
        return np.array([math.dist(quad[0], quad[3]) for quad in quads])


def track_people(frames: Iterable[Frame], fps: float, aligner: Aligner, identity: Identity) -> list[Person]:
    """The people of a film: who fills most of it comes first. The list may be empty.

    Whole frames are searched three times a second and where the scene changes; between, each face is followed by its landmarks, and a
    detector confirms it. `identity` says whether a track has slipped to somebody else, and which tracks are of one person. Frames are
    taken one at a time, as bytes; 1.5 kB are kept for each face of each, so an hour at 30 frames a second takes 0.2 GB.
    """
    done: list[Track] = []
    live: list[Track] = []
    thumb, searched, total, true_fps = None, 0, 0, fps
    for index, (frame, times) in enumerate(runs(frames)):
        total += times
        true_fps = fps * (index + 1) / total
        before, thumb = thumb, F.adaptive_avg_pool2d(frame[..., ::4, ::4].float(), (18, 32))
        scene = before is None or float((thumb - before).abs().mean()) > SCENE
        if scene:
            for track in live:
                track.closes = True
            done, live = done + live, []
        for track in live:
            _step(track, frame, aligner)
        _occluded(live)
        lost = any(track.seen[-2:] == [True, False] for track in live)
        if scene or lost or index - searched >= SEARCH_S * true_fps:
            searched = index
            live += _search(live, frame, index, scene, aligner)
            for track in [track for track in live if track.seen[-1]]:
                who = identity(crop(frame, Alignment(track.squares[-1], track.size), SIZE_PX))[0]
                slipped = bool(track.people) and float((who - track.who).norm()) > SAME_PERSON_BELOW
                earlier = max(track.people, default=index)
                track.people[index] = who
                if slipped:  # at the frame in which the face changed most
                    spans = range(earlier + 1, index + 1)
                    changed = [_correlation(track.thumbnails[i - track.first], track.thumbnails[i - 1 - track.first]) for i in spans]
                    live.append(track.cut(spans[int(np.argmin(changed))]))
                    live.remove(track)
                    done.append(track)
        gone = [track for track in live if not any(track.seen[-max(round(BRIDGE_S * true_fps), 1) :])]
        done, live = done + gone, [track for track in live if track not in gone]
    for track in live:
        track.closes = track.seen[-1]
    for track in done + live:
        track.fps = true_fps
        while not track.seen[-1]:  # a gap that has no end is none
            track.squares.pop(), track.seen.pop(), track.thumbnails.pop()
            track.closes = False
    return _people(done + live)


def edit(frames: Iterable[Frame], people: Sequence[Person], steps: Steps) -> Iterator[Frame]:
    """The frames with the faces of these people edited, one by one; the people were found in the same frames."""
    positions: dict[int, list[tuple[Alignment, float]]] = {}
    for person in people:
        for track in person.tracks:
            for index, alignment, weight in track.positions():
                positions.setdefault(index, []).append((alignment, weight))
    waiting: list[tuple[Frame, int]] = []
    start = 0
    for one in runs(frames):
        waiting.append(one)
        if len(waiting) == CHUNK:
            yield from _edited(waiting, start, positions, steps)
            start, waiting = start + CHUNK, []
    yield from _edited(waiting, start, positions, steps)


def runs(frames: Iterable[Frame]) -> Iterator[tuple[Frame, int]]:
    """Every frame that differs from the one before, and how often it comes in a row: films of uneven times repeat frames."""
    last, count = None, 0
    for frame in frames:
        if last is not None and torch.equal(frame, last):
            count += 1
            continue
        if last is not None:
            yield last, count
        last, count = frame, 1
    if last is not None:
        yield last, count


def chosen(people: Sequence[Person], face: int | None) -> Sequence[Person]:
    """All people, or only one (0 is who fills most of the film). Raises NoFace if there is none."""
    if not people:
        raise NoFace("no face was found in this film. One from 40 px, seen from the front and upright, was needed.")
    if face is None:
        return people
    if not 0 <= face < len(people):
        raise NoFace(
            f"there is no face number {face}: {len(people)} people found, numbered 0 (who fills most of the film) to {len(people) - 1}."
        )
    return people[face : face + 1]


def _step(track: Track, frame: Frame, aligner: Aligner) -> None:
    """Follow a face into the next frame: its landmarks are read where it was, and the detector must still see a face there."""
    quad = track.squares[-1]
    face = crop(frame, Alignment(quad, track.size), SIZE_PX)
    moved, seen = quad, float(aligner.check(face)[0, 0]) > STILL_A_FACE
    if seen:
        across, down = ((aligner.landmarks.points(face)[0].double().numpy() + 0.5) / SIZE_PX).T[:, :, None]  # each [68, 1], 0 to 1
        moved = square(quad[0] + across * (quad[3] - quad[0]) + down * (quad[1] - quad[0]))
        sides = [math.dist(one[0], one[3]) for one in (quad, moved)]
        seen = math.dist(quad.mean(0), moved.mean(0)) < 0.35 * sides[0] and 0.7 < sides[1] / sides[0] < 1.4
    track.add(moved if seen else quad, _thumbnail(face), seen)


def _occluded(live: Sequence[Track]) -> None:
    """Where two tracks meet, one face hides the other: the track that looks less like itself is not seen."""
    for index, one in enumerate(live):
        for other in live[:index]:
            if one.seen[-1] and other.seen[-1] and _near(one.squares[-1], other.squares[-1], 0.3):
                liker = [_correlation(track.thumbnails[-1], np.mean(track.thumbnails[-10:-1], axis=0)) for track in (one, other)]
                (one if liker[0] < liker[1] else other).seen[-1] = False


def _search(live: Sequence[Track], frame: Frame, index: int, scene: bool, aligner: Aligner) -> list[Track]:
    """Tracks that begin in this frame; faces that a track has lost are given back to it."""
    new = []
    for found in aligner.find(frame):
        quad = np.array(found.quad)
        known = [track for track in live if _near(track.squares[-1], quad, 0.5)]
        if any(track.seen[-1] for track in known):
            continue
        thumbnail = _thumbnail(crop(frame, found, SIZE_PX))
        if known:
            known[0].squares[-1], known[0].seen[-1], known[0].thumbnails[-1] = quad, True, thumbnail
        else:
            new.append(Track(index, tuple(frame.shape[2:]), [quad], [True], [thumbnail], opens=scene))
    return new


def _people(tracks: Sequence[Track]) -> list[Person]:
    """Tracks of one person together: who looks alike and is never in two places at once."""
    found: list[Person] = []
    for track in sorted((track for track in tracks if track.people), key=lambda track: track.first):
        best, limit = None, SAME_PERSON_BELOW
        for person in found:
            last = person.tracks[-1]
            distance = float((track.who - torch.stack([one.who for one in person.tracks]).mean(0)).norm())
            if track.first - last.end < track.fps and _near(last.squares[-1], track.squares[0], 0.5):
                distance *= 0.8  # the same place soon after
            if last.end <= track.first and distance < limit:
                best, limit = person, distance
        if best is None:
            found.append(Person([track]))
        else:
            best.tracks.append(track)
    return sorted(found, key=lambda person: -(person.sides**2).sum())


@torch.no_grad()
def _edited(
    waiting: Sequence[tuple[Frame, int]],
    start: int,
    positions: dict[int, list[tuple[Alignment, float]]],
    steps: Steps,
) -> Iterator[Frame]:
    jobs = [(i, *position) for i in range(len(waiting)) for position in positions.get(start + i, [])]
    frames = [frame for frame, _ in waiting]
    if jobs:
        before = torch.cat([crop(frames[i], alignment, steps[0][0].size_px) for i, alignment, _ in jobs])
        changes, flows = edit_of(before, steps)
        for at, (i, alignment, weight) in enumerate(jobs):
            frame, one = frames[i], slice(at, at + 1)
            frames[i], flow = frame.clone(), None if flows is None else flows[one]
            for rows, columns, more in parts(frame, in_tone(before[one], changes[one]), flow, alignment, weight):
                window = frames[i][:, :, rows, columns]
                window.copy_((window + 127.5 * more).round_().clamp_(0, 255))
    for frame, (_, times) in zip(frames, waiting, strict=True):
        for _ in range(times):
            yield frame


def _near(one: np.ndarray, other: np.ndarray, sides: float) -> bool:
    return math.dist(one.mean(0), other.mean(0)) < sides * max(math.dist(quad[0], quad[3]) for quad in (one, other))


def _thumbnail(face: Float[Tensor, "1 3 size size"]) -> np.ndarray:
    """What a face looks like, coarsely: [16, 16], without the edges of the square."""
    edge = face.shape[-1] // 8
    return images.resize(face[:, :, edge:-edge, edge:-edge].mean(1, keepdim=True), 16)[0, 0].numpy()


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    a, b = one - one.mean(), other - other.mean()
    return float((a * b).sum() / max(np.sqrt((a**2).sum() * (b**2).sum()), 1e-6))
