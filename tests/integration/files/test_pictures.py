"""Pictures of every format, kind of pixels, turn and colour space look as before, or the result says why not."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from celeriac.errors import TaskError
from celeriac.tasks.types.file_options import ImageOptions
from celeriac.tasks.types.processors import FileJob, NoOptions
from celeriac_tasks.files.pictures.opening import accepted_formats
from celeriac_tasks.files.processors.image import image
from celeriac_tasks.files.processors.probe import probe
from tests.kit.files.file_runs import FileRun, job_of
from tests.kit.files.picture_files import DEEP, INTS, corners, grey_ramp, png, profile, quarters, saved, tiff
from tests.kit.files.picture_kinds import RAMPS, REFUSED, TRANSPARENT


def job_on(folder: Path, content: bytes) -> FileJob:
    source = folder / "original"
    source.write_bytes(content)
    return job_of(source, folder)


def processed(folder: Path, content: bytes, **options: Any) -> tuple[Image.Image, list[str]]:
    """Return the result of `image` and its notes."""
    job = job_on(folder, content)
    facts = image(job, ImageOptions(**options))
    with Image.open(folder / job.outputs[0]) as made:
        made.load()
    assert (facts["width"], facts["height"]) == made.size
    return made, facts["notes"]


def close(one: Any, other: Any, tolerance: int = 3) -> bool:
    return all(abs(a - b) <= tolerance for pixel, like in zip(one, other, strict=True) for a, b in zip(pixel, like))  # noqa: B905


def row_of(picture: Image.Image) -> list[int]:
    """Return the grey values across the middle."""
    return list(
        picture.convert("RGB")
        .getchannel("G")
        .crop((0, picture.height // 2, picture.width, picture.height // 2 + 1))
        .tobytes()
    )


COLOURED = [(230, 20, 20), (20, 200, 20), (20, 20, 220), (128, 128, 128)]
GREYS = [(83,) * 3, (126,) * 3, (43,) * 3, (128,) * 3]
TOLERANCES = {"JPEG": 4, "WEBP": 4, "AVIF": 4, "MPO": 4}


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "MPO"])
async def test_each_accepted_format_in_a_child_process(tmp_path: Path, name: str) -> None:
    (tmp_path / "original").write_bytes(saved(quarters(), name))
    result = await FileRun(tmp_path / "original")("image", {"format": "png"})
    with Image.open(result["result_file_path"]) as made:
        assert close(corners(made), COLOURED, 4)
    assert result["facts"]["original"]["format"] in (name.lower(), "jpeg")
    assert result["facts"]["notes"] == []


def test_the_accepted_formats_are_those_of_this_pillow() -> None:
    assert set(accepted_formats()) == {"JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF"}
    assert set(accepted_formats()) <= set(Image.OPEN)


#: The modes that Pillow writes in each format.
MODES = {
    **dict.fromkeys(("TIFF", "WEBP", "AVIF"), "1 L LA P PA RGB RGBA RGBX CMYK YCbCr LAB"),
    **dict.fromkeys(("PNG", "GIF"), "1 L LA P RGB RGBA"),
    "JPEG": "1 L RGB RGBX CMYK YCbCr",
    "BMP": "1 L P RGB RGBA",
    "PPM": "1 L RGB RGBA",
}


@pytest.mark.parametrize(("name", "mode"), [(name, mode) for name, modes in MODES.items() for mode in modes.split()])
def test_every_mode_in_every_format(tmp_path: Path, name: str, mode: str) -> None:
    made_from = quarters("P" if mode == "PA" else "RGB").convert(mode)
    made, notes = processed(tmp_path, saved(made_from, name))
    expected = {"1": corners(made_from.convert("RGB")), "L": GREYS, "LA": GREYS}.get(mode, COLOURED)
    # A palette has 216 colours.
    tolerance = 60 if mode in ("P", "PA") else 6
    assert close(corners(made.convert("RGB")), expected, 12 if mode == "1" else tolerance)
    assert [note for note in notes if "CMYK" not in note and "Lab" not in note] == []


@pytest.mark.parametrize("kind", RAMPS)
@pytest.mark.parametrize("target", ["png", "jpeg"])
def test_a_ramp_stays_a_ramp(tmp_path: Path, kind: str, target: str) -> None:
    content, shown, note = RAMPS[kind]
    made, notes = processed(tmp_path, content, format=target)
    assert max(abs(is_ - was) for is_, was in zip(row_of(made), shown, strict=True)) <= (1 if target == "png" else 6)
    assert note in " ".join(notes)
    assert notes or not note


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_kept_is_refused(tmp_path: Path, kind: str) -> None:
    content, code, options = REFUSED[kind]
    with pytest.raises(TaskError) as caught:
        processed(tmp_path, content, **options)
    assert caught.value.code == code
    assert not caught.value.retryable


@pytest.mark.parametrize("name", ["PNG", "TIFF", "JPEG", "BMP", "GIF", "WEBP", "AVIF", "PPM", "MPO"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_that_was_cut_off_is_never_half_a_picture(tmp_path: Path, name: str, share: float) -> None:
    noise = Image.merge("RGB", [Image.effect_noise((96, 64), 90) for _ in range(3)])
    content = saved(noise, name)
    with pytest.raises(TaskError) as caught:
        processed(tmp_path, content[: int(len(content) * share)])
    assert caught.value.code in ("damaged_media", "unsupported_media")


# --- transparency


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparency_is_kept_or_becomes_white(tmp_path: Path, kind: str) -> None:
    content, alphas = TRANSPARENT[kind]
    made, notes = processed(tmp_path, content, format="png")
    assert close([corner[3:] for corner in corners(made)], [(alpha,) for alpha in alphas], 2)
    assert all("8" in note for note in notes)
    flat, notes = processed(tmp_path, content, format="jpeg", quality=95)
    assert "white" in " ".join(notes)
    for shown, whole in zip(corners(flat), corners(made), strict=True):
        over_white = [round(one * whole[3] / 255 + 255 - whole[3]) for one in whole[:3]]
        if flat.width > 2:  # colours of single pixels run into each other in a jpeg
            assert close([shown], [over_white], 8)


def test_an_opaque_alpha_loses_nothing_in_a_jpeg(tmp_path: Path) -> None:
    assert processed(tmp_path, saved(quarters("RGBA"), "PNG"), format="jpeg")[1] == []


# --- turns

#: orientation → how a picture is stored so that it is shown upright with this orientation.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_turned_picture_becomes_upright(tmp_path: Path, name: str, orientation: int) -> None:
    stored = quarters() if orientation == 1 else quarters().transpose(STORED[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(stored, name, exif=exif)
    for strip in (True, False):
        made, notes = processed(tmp_path, content, format="png", strip_metadata=strip)
        assert (made.size, notes) == ((64, 48), [])
        assert close(corners(made), COLOURED, 5)
        assert made.getexif().get(0x0112, 1) == 1
    small, _ = processed(tmp_path, content, format="png", width=16)
    assert small.size == (16, 12)
    assert close(corners(small), COLOURED, 8)


@pytest.mark.parametrize("orientation", [2, 6])
def test_deep_pixels_are_turned_too(tmp_path: Path, orientation: int) -> None:
    content = tiff(grey_ramp("<H", DEEP), bits=[16], more=[(0x0112, 3, orientation)])
    made, _ = processed(tmp_path, content)
    if orientation == 2:
        assert row_of(made) == INTS[::-1]
    else:
        assert made.size == (8, 256)
        assert row_of(made.transpose(Image.Transpose.ROTATE_90)) == INTS


# --- colours


def srgb_row(made: Image.Image) -> list[int]:
    """Return the greys as a viewer that knows profiles and gamma shows them."""
    if (kept := made.info.get("icc_profile")) is None:
        gamma = made.info.get("gamma")
        return [round(255 * (v / 255) ** (1 / 2.2 / gamma)) for v in row_of(made)] if gamma else row_of(made)
    srgb = ImageCms.createProfile("sRGB")
    return row_of(ImageCms.profileToProfile(made, ImageCms.ImageCmsProfile(io.BytesIO(kept)), srgb, outputMode="RGB"))


#: A linear ramp as sRGB shows it.
LINEAR = [round(255 * (1.055 * (v / 255) ** (1 / 2.4) - 0.055 if v > 1 else v / 255 * 12.92)) for v in INTS]
GAMMA_1 = [round(255 * (v / 255) ** (1 / 2.2)) for v in INTS]
GREY = Image.frombytes("L", (256, 8), bytes(INTS) * 8)


@pytest.mark.parametrize("target", ["png", "jpeg", "webp"])
@pytest.mark.parametrize(
    "kind", ["grey profile", "grey profile with alpha", "srgb profile", "gamma of 1", "gamma of sRGB"]
)
def test_greys_are_shown_as_bright_as_they_were(tmp_path: Path, target: str, kind: str) -> None:
    gamma = struct.pack(">I", 100_000 if kind == "gamma of 1" else 45_455)
    content, shown = {
        "grey profile": (saved(GREY, "PNG", icc_profile=profile("GRAY")), LINEAR),
        "grey profile with alpha": (saved(GREY.convert("LA"), "PNG", icc_profile=profile("GRAY")), LINEAR),
        "srgb profile": (saved(GREY.convert("RGB"), "PNG", icc_profile=profile("sRGB")), INTS),
        "gamma of 1": (png(8, 0, bytes(INTS) * 8, gAMA=gamma), GAMMA_1),
        "gamma of sRGB": (png(8, 0, bytes(INTS) * 8, gAMA=gamma), INTS),
    }[kind]
    made, notes = processed(tmp_path, content, format=target, quality=95)
    assert max(abs(a - b) for a, b in zip(srgb_row(made), shown, strict=True)) <= 12
    kept = target == "png" and "gamma" in kind
    assert bool(notes) == (shown is not INTS and not kept)


@pytest.mark.parametrize("target", ["png", "jpeg", "webp"])
def test_a_wide_gamut_keeps_its_profile(tmp_path: Path, target: str) -> None:
    wide = profile("WIDE")
    made, notes = processed(tmp_path, saved(quarters(), "JPEG", icc_profile=wide, quality=95), format=target)
    assert (made.info["icc_profile"], notes) == (wide, [])


@pytest.mark.parametrize(
    ("name", "mode", "icc", "says"),
    [
        ("JPEG", "RGB", b"no profile" * 20, "damaged"),
        ("PNG", "RGB", profile("GRAY"), "does not fit"),
        ("JPEG", "CMYK", profile("GRAY"), "does not fit"),
        ("TIFF", "CMYK", profile("sRGB"), "does not fit"),
    ],
)
def test_a_profile_that_does_not_fit_is_left_out_and_said(
    tmp_path: Path, name: str, mode: str, icc: bytes, says: str
) -> None:
    made, notes = processed(tmp_path, saved(quarters(mode), name, icc_profile=icc))
    assert "icc_profile" not in made.info
    assert says in " ".join(notes)
    assert close(corners(made), COLOURED, 8)


def test_the_primaries_and_code_points_of_a_png_are_kept_in_a_png(tmp_path: Path) -> None:
    codes = bytes((9, 16, 0, 1))
    chrm = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    made, _ = processed(tmp_path, png(8, 0, bytes(INTS) * 8, cHRM=chrm))
    assert made.info["chromaticity"][2] == pytest.approx(0.68)
    processed(tmp_path, png(8, 0, bytes(INTS) * 8, cICP=codes))
    assert b"cICP" + codes in (tmp_path / "result.png").read_bytes()
    _, notes = processed(tmp_path, png(8, 0, bytes(INTS) * 8, cHRM=chrm), format="jpeg")
    assert "primaries" in notes[0]


@pytest.mark.parametrize("target", ["png", "jpeg"])
@pytest.mark.parametrize("gamma", [bytes(4), bytes(8), struct.pack(">II", 100_000, 0)])
def test_a_gamma_that_says_nothing_counts_as_that_of_srgb(tmp_path: Path, gamma: bytes, target: str) -> None:
    chrm = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    made, notes = processed(tmp_path, png(8, 0, bytes(INTS) * 8, cHRM=chrm, gAMA=gamma), format=target, quality=95)
    assert max(abs(a - b) for a, b in zip(row_of(made), INTS, strict=True)) <= 12
    assert [("primaries" in one, "gamma" in one) for one in notes] == ([(True, False)] if target == "jpeg" else [])
    assert made.info.get("gamma") == (pytest.approx(1 / 2.2, abs=1e-4) if target == "png" else None)


def test_cmyk_without_a_marker_says_how_it_was_read(tmp_path: Path) -> None:
    content = saved(quarters("CMYK"), "JPEG", quality=95)
    at = content.index(b"\xff\xee")
    plain = content[:at] + content[at + 2 + int.from_bytes(content[at + 2 : at + 4], "big") :]
    for file, says in ((content, False), (plain, True)):
        made, notes = processed(tmp_path, file)
        assert close(corners(made), COLOURED, 8)
        assert any("inverted" in note for note in notes) is says


# --- what else a file has


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO"])
def test_the_first_frame_is_taken_and_said(tmp_path: Path, name: str) -> None:
    content = saved(quarters(), name, save_all=True, append_images=[quarters().rotate(180), Image.new("RGB", (64, 48))])
    made, notes = processed(tmp_path, content)
    assert close(corners(made), COLOURED, 5)
    assert notes == ["the file has 3 pictures: the result has the first one"]


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_kept_metadata_fits_the_result(tmp_path: Path, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    exif.get_ifd(0x8769).update({0xA002: 64, 0xA003: 48})
    exif.get_ifd(0x8825).update({1: "N"})
    content = saved(quarters(), name, exif=exif)
    made, _ = processed(tmp_path, content, format="jpeg", strip_metadata=False, width=24)
    kept = made.getexif()
    assert kept[0x010F] == "maker"
    # Pillow does not write the directory of places into a TIFF.
    assert name == "TIFF" or kept.get_ifd(0x8825)[1] == "N"
    assert 0x0101 not in kept, "a jpeg has no lines of a tiff"
    directory = kept.get_ifd(0x8769)
    if directory:
        assert (directory[0xA002], directory[0xA003]) == made.size == (24, 32)
    made, _ = processed(tmp_path, content, format="jpeg")
    assert len(made.getexif()) == 0


def test_exif_that_is_too_long_for_a_jpeg_is_left_out_and_said(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 70_000
    _, notes = processed(tmp_path, saved(quarters(), "PNG", exif=exif), format="jpeg", strip_metadata=False)
    assert "EXIF" in notes[0]


def test_pixels_that_are_not_square_are_said(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[282], tags[283], tags[296] = 204, 98, 2
    _, notes = processed(tmp_path, saved(quarters(), "TIFF", tiffinfo=tags))
    assert "not square" in notes[0]


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (3, 2)])
@pytest.mark.parametrize("target", ["png", "jpeg", "webp"])
def test_tiny_and_extreme_shapes(tmp_path: Path, size: tuple[int, int], target: str) -> None:
    content = saved(Image.new("RGB", size, (200, 100, 50)), "PNG")
    made, notes = processed(tmp_path, content, format=target)
    assert (made.size, notes) == (size, [])
    made, _ = processed(tmp_path, content, format=target, width=64, height=64)
    assert made.size == (max(1, min(64, size[0])) if size[0] >= size[1] else 1, min(64, size[1]))
    assert close([made.convert("RGB").getpixel((0, 0))], [(200, 100, 50)], 6)


@pytest.mark.parametrize("size", [(801, 603), (1001, 17), (640, 479)])
def test_a_jpeg_that_is_read_smaller_has_the_size_of_the_whole_one(tmp_path: Path, size: tuple[int, int]) -> None:
    made, _ = processed(tmp_path, saved(quarters(size=size), "JPEG"), width=100)
    assert made.size == (100, max(1, round(size[1] * 100 / size[0])))


@pytest.mark.parametrize("name", ["AVIF", "PPM", "WEBP", "TIFF", "BMP", "JPEG", "PNG"])
def test_a_picture_is_probed_as_a_picture(tmp_path: Path, name: str) -> None:
    facts = probe(job_on(tmp_path, saved(quarters(), name)), NoOptions())
    assert (facts["format"], facts["width"], facts["height"], facts["frames"]) == (name.lower(), 64, 48, 1)


@pytest.mark.parametrize("processor", ["transcode", "thumbnail"])
async def test_a_still_picture_is_not_a_video(tmp_path: Path, processor: str) -> None:
    (tmp_path / "original").write_bytes(saved(quarters(), "AVIF"))
    with pytest.raises(TaskError) as caught:
        await FileRun(tmp_path / "original")(processor)
    assert caught.value.code == "unsupported_media"
