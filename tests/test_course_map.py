"""The map of the course is true and readable."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg

from dvlatent.lessons.course_map import ACTS, CARD, DPI, NOW, course_map

LESSONS = sorted((Path(__file__).parents[1] / "notebooks" / "src").glob("[0-9][0-9]_*.py"))


def test_the_lessons_in_colour_are_those_that_exist():
    assert NOW == tuple(lesson.name[:2] for lesson in LESSONS)


def test_twelve_lessons_in_order():
    assert [stop.number for _, _, stops in ACTS for stop in stops] == [f"{number:02d}" for number in range(12)]


def test_no_word_leaves_its_card_or_touches_another():
    fig = course_map()
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    words = [text for text in fig.axes[0].texts if not 3 < text.get_zorder() < 4]  # what is between lies inside the drawings
    places = [text.get_window_extent(canvas.get_renderer()) for text in words]
    for number, (text, place) in enumerate(zip(words, places, strict=True)):
        assert 0 <= place.x0 and place.x1 <= fig.bbox.x1 and 0 <= place.y0 and place.y1 <= fig.bbox.y1, f"{text.get_text()!r} is cut"
        if text.get_size() < 16:  # the acts have a line of their own
            assert place.width <= (CARD[0] - 0.2) * DPI, f"{text.get_text()!r} is wider than its card"
        touched = [words[other].get_text() for other, there in enumerate(places) if other > number and place.overlaps(there)]
        assert not touched, f"{text.get_text()!r} lies over {touched}"
