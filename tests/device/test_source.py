"""What a user may name as a source of frames."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from splitrt.device.source import again, frames_of, photographs, read_photograph
from splitrt.errors import InvalidInput


def saved(path: Path, colour: str, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def test_a_folder_gives_its_photographs_sorted_and_is_not_live(tmp_path: Path) -> None:
    for name, colour in (("b.png", "blue"), ("a/c.png", "red"), ("notes.txt", "")):
        if colour:
            saved(tmp_path / name, colour)
        else:
            (tmp_path / name).write_text("no photograph")
    frames, is_live = frames_of(str(tmp_path))
    assert [tuple(frame[0, 0]) for frame in frames] == [(255, 0, 0), (0, 0, 255)]
    assert not is_live


def test_a_photograph_is_turned_as_its_metadata_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (40, 30), "red").save(tmp_path / "turned.jpg", exif=exif)
    assert read_photograph(tmp_path / "turned.jpg").shape == (40, 30, 3)


def test_what_is_no_source_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "fake.jpg").write_bytes(b"not a photograph")
    with pytest.raises(InvalidInput, match=r"fake\.jpg cannot be read"):
        read_photograph(tmp_path / "fake.jpg")
    with pytest.raises(InvalidInput, match="a camera's number is wanted, got 'nowhere'"):
        frames_of("nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InvalidInput, match="has none"):
        photographs(empty)


def test_a_video_gives_its_frames_in_colour_and_order(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for red in (0, 120, 240):
        writer.write(np.full((48, 64, 3), (10, 60, red), np.uint8))  # OpenCV's order: blue, green, red
    writer.release()
    frames, is_live = frames_of(str(path))
    means = [frame.mean((0, 1)) for frame in frames]
    assert not is_live
    np.testing.assert_allclose(means, [(0, 60, 10), (120, 60, 10), (240, 60, 10)], atol=12)


def test_a_file_that_is_no_video_and_a_camera_that_is_not_there_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    (tmp_path / "film.mp4").write_bytes(b"no film")
    for source in (str(tmp_path / "film.mp4"), "87"):
        with pytest.raises(InvalidInput, match="that OpenCV can open"):
            frames_of(source)


def test_photographs_in_hidden_folders_are_somebody_elses(tmp_path: Path) -> None:
    for folder in (tmp_path / "day", tmp_path / ".cache"):
        folder.mkdir()
        Image.new("RGB", (4, 4)).save(folder / "one.png")
    assert photographs(tmp_path) == [tmp_path / "day" / "one.png"]


def test_a_bomb_of_a_photograph_and_one_of_broken_metadata_are_refused_as_any_other(tmp_path: Path) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    begin, end = b"\x89PNG\r\n\x1a\n", chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    bomb = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    small = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    for broken in (bomb, small + chunk(b"eXIf", b"MM\x94*\0\0\0\x08")):
        (tmp_path / "broken.png").write_bytes(begin + broken + end)
        with pytest.raises(InvalidInput, match=r"broken\.png cannot be read"):
            read_photograph(tmp_path / "broken.png")


def test_a_video_that_opens_and_holds_no_frame_does_not_begin_again_for_ever(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"movi") + 4])  # cut before its first frame
    assert cv2.VideoCapture(str(path)).isOpened()
    with pytest.raises(InvalidInput, match="gives none"):
        next(again(str(path)))
