"""Films through filters: people are followed, gaps bridged, and the edit comes and goes gently."""

import weakref

import pytest
import torch

from dvlatent import images
from dvlatent.distillation import film
from dvlatent.distillation.filter import Filter
from dvlatent.errors import NoFace

FPS = 12
HEIGHT, WIDTH = 180, 320


def picture(*faces):
    """A frame with faces: each a picture [1, 3, size, size], the x of its center, and its side in pixels."""
    noise = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(1)) * 0.6 - 0.5
    frame = torch.nn.functional.interpolate(noise, (HEIGHT, WIDTH), mode="bicubic")
    for face, x, side in faces:
        left, top = round(x - side / 2), round(HEIGHT / 2 - side / 2)
        frame[:, :, top : top + side, left : left + side] = images.resize(face, side)
    return torch.from_numpy(images.to_uint8(frame)).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def brighter(aligner):
    return Filter(lambda image, strength: image + 0.1 * strength.view(-1, 1, 1, 1), "age", aligner=aligner)


@pytest.fixture(scope="module")
def tracked(aligner, identity):
    return lambda frames: film.track_people(iter(frames), FPS, aligner, identity)


def added(frames, people, older):
    """What the edit adds in the middle of the left and the right half of every frame, in levels: [frame, 2]."""
    pairs = list(zip(film.edit(iter(frames), people, [(older, 2.0)]), frames, strict=True))
    change = torch.cat([new.float() - old.float() for new, old in pairs])
    return torch.stack([change[:, :, 80:100, x - 10 : x + 10].mean((1, 2, 3)) for x in (80, 240)], dim=1)


@pytest.fixture(scope="module")
def meeting(recorded_faces):
    """One person grows, the other shrinks; for two frames the left one is away, for two others out of focus."""
    one, other = recorded_faces[0:1], recorded_faces[3:4]
    soft = images.resize(images.resize(one, 16), 256)
    left = [soft if index in (18, 19) else one for index in range(26)]
    return [
        picture((other, 240, 150 - 2 * index), *[] if index in (9, 10) else [(left[index], 80, 100 + 2 * index)]) for index in range(26)
    ]


def test_one_person_is_followed_through_gaps_and_never_another(meeting, tracked, brighter):
    people = tracked(meeting)
    assert len(people) == 2
    for number, person in enumerate(people):
        left, right = added(meeting, [person], brighter).unbind(1)
        x = person.tracks[0].squares[0].mean(0)[0]
        his, other = (left, right) if x < 160 else (right, left)
        assert float(other.abs().max()) == 0
        away = [9, 10] if x < 160 else []
        assert float(his[away].abs().sum()) == 0  # no edit where there is no face
        assert float(his[[0, 4, 16, 17, 18, 19, 20, 25]].min()) > 20, number  # whole, and through the two frames out of focus
        assert float(his.diff().abs().max()) < 25.5 / (film.FADE_S * FPS) + 1  # never at once


def test_who_comes_back_after_a_cut_is_the_same_person(recorded_faces, tracked, brighter):
    one, other = recorded_faces[0:1], recorded_faces[3:4]
    paler = [picture((other, 240, 110 + index)).float() * 0.6 + 100 for index in range(4)]  # another scene
    frames = [picture((one, 80 + index, 130)) for index in range(5)]
    frames += [*(frame.round().to(torch.uint8) for frame in paler), *(picture((one, 240 - index, 130)) for index in range(3))]
    people = tracked(frames)
    assert [[(track.first, track.end) for track in person.tracks] for person in people] == [[(0, 5), (9, 12)], [(5, 9)]]
    left, right = added(frames, people[:1], brighter).unbind(1)
    assert left[:5].min() > 20 and right[9:].min() > 20 and right[:9].abs().max() == 0  # whole in the first and last frame of each scene


def test_the_edit_of_a_still_film_hardly_moves(photo, aligner, identity):
    """The astronaut with the noise of a camera: the corners of her square move a tenth of a pixel, and less than photo by photo."""
    still, generator = images.resize(photo, 384), torch.Generator().manual_seed(0)
    noisy = [still + torch.randn(still.shape, generator=generator) * 3 / 127.5 for _ in range(14)]
    frames = [torch.from_numpy(images.to_uint8(one)).permute(0, 3, 1, 2) for one in noisy]
    (person,) = film.track_people(iter(frames), 24, aligner, identity)
    quads = torch.tensor([alignment.quad for _, alignment, _ in person.tracks[0].positions()])
    alone = torch.tensor([aligner.find(frame)[0].quad for frame in frames])
    assert float(quads.std(0).mean()) < min(0.12, 0.75 * float(alone.std(0).mean()))


def test_repeated_frames_are_edited_once(meeting, tracked, brighter):
    frames = [frame for frame in meeting[:3] for _ in range(4)]
    calls = []
    counting = Filter(lambda image, strength: calls.append(len(image)) or image, "age", aligner=brighter.aligner)
    new = list(film.edit(iter(frames), tracked(frames), [(counting, 1.0)]))
    assert len(new) == 12 and calls == [6]  # two people in three frames
    assert all(torch.equal(*pair) for pair in zip(new, frames, strict=True))


def test_few_frames_are_held_at_a_time(meeting, tracked, brighter):
    alive, most = set(), 0

    def numbered():
        nonlocal most
        for index in range(10):
            frame = meeting[0] // 2 + index
            alive.add(index)
            weakref.finalize(frame, alive.discard, index)
            most = max(most, len(alive))
            yield frame
            del frame

    people = tracked(numbered())
    assert most <= 3
    for frame in film.edit(numbered(), people, [(brighter, 2.0)]):
        del frame
    assert most <= film.CHUNK + 2


def test_a_person_is_chosen_by_number(meeting, tracked):
    people = tracked(meeting[:1])
    assert film.chosen(people, None) == people and film.chosen(people, 1) == people[1:]
    with pytest.raises(NoFace, match="no face number 2: 2 people"):
        film.chosen(people, 2)
    with pytest.raises(NoFace, match="no face was found in this film"):
        film.chosen([], None)
