"""The options of the file processors that come with Celeriac, as every process knows them.

Their functions are in `celeriac_tasks.files`; a front door needs none to check a submission.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, model_validator

from celeriac.settings import parse_duration_s
from celeriac.tasks.types.processors import NoOptions, Processor, processors

#: A duration in a file: seconds, or `500ms`, `30s`, `10m`, `1h`.
_Duration = Annotated[float, BeforeValidator(parse_duration_s), Field(ge=0, le=366 * 86400, allow_inf_nan=False)]
#: Longest edge of a picture that is made.
_Edge = Annotated[StrictInt, Field(ge=2, le=16384)]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TranscodeOptions(_Options):
    """To H.264 and AAC in an MP4 that plays everywhere and while it is loaded."""

    crf: StrictInt = Field(23, ge=0, le=51, description="Quality: 18 is visually lossless, 28 is small.")
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"] = Field(
        "veryfast", description="Slower makes smaller files of the same quality."
    )
    height: _Edge | None = Field(None, description="Most lines of the result; a smaller video keeps its size.")
    fps: float | None = Field(None, gt=0, le=240, description="Frames per second; those of the original if left out.")
    audio: StrictBool = Field(True, description="Whether the result has sound (if the original has).")
    audio_bitrate_kbps: StrictInt = Field(128, ge=16, le=512)
    start: _Duration = Field(0.0, description="Where to begin.")
    max_duration: Annotated[_Duration, Field(gt=0)] | None = Field(
        None, description="Only this much of it, from `start`."
    )
    tolerate_damage: StrictBool = Field(
        False, description="Keep what can be read of a damaged or truncated file, instead of failing."
    )


class ThumbnailOptions(_Options):
    """One frame of a video as a picture."""

    at: _Duration | None = Field(None, description="Which moment, from the beginning.")
    percent: float | None = Field(
        None, ge=0, le=100, description="Which moment, in percent of the whole; 10 if left out."
    )
    width: _Edge = Field(320, description="The height follows; a smaller video keeps its size.")
    format: Literal["jpg", "png", "webp"] = "jpg"

    @model_validator(mode="after")
    def _one_moment(self) -> Self:
        if self.at is not None and self.percent is not None:
            raise ValueError("at and percent exclude each other: give one of them")
        return self


class ImageOptions(_Options):
    """A picture, turned upright, resized and converted."""

    width: _Edge | None = Field(None, description="Most pixels across.")
    height: _Edge | None = Field(None, description="Most pixels down.")
    fit: Literal["inside", "cover", "exact"] = Field(
        "inside",
        description="`inside` keeps all of it, `cover` fills width and height and cuts what is over, `exact` distorts."
        " Only `exact` and `cover` enlarge.",
    )
    format: Literal["jpeg", "png", "webp"] | None = Field(None, description="That of the original if left out.")
    quality: StrictInt = Field(85, ge=1, le=100, description="Quality of jpeg and webp pictures.")
    strip_metadata: StrictBool = Field(
        True, description="Leave out EXIF, with its place and camera; colours stay right."
    )

    @model_validator(mode="after")
    def _both_edges(self) -> Self:
        if self.fit != "inside" and (self.width is None or self.height is None):
            raise ValueError(f"fit {self.fit!r} needs both width and height")
        return self


class ChecksumOptions(_Options):
    """Digests of the file, as lower-case hex."""

    algorithms: list[Literal["sha256", "sha512", "sha1", "md5", "blake2b"]] = Field(
        default=["sha256"], min_length=1, max_length=5
    )


class CompressOptions(_Options):
    """The file as it is, compressed without loss."""

    algorithm: Literal["zstd", "gzip"] = "zstd"
    level: StrictInt | None = Field(None, ge=1, le=19, description="gzip 1 to 9 (6), zstd 1 to 19 (3).")

    @model_validator(mode="after")
    def _level_fits(self) -> Self:
        if self.algorithm == "gzip" and self.level is not None and self.level > 9:
            raise ValueError("gzip has levels 1 to 9")
        return self


#: Without their functions: enough to check a submission. Workers add theirs.
for _built_in in (
    Processor("probe", NoOptions),
    Processor("transcode", TranscodeOptions),
    Processor("thumbnail", ThumbnailOptions),
    Processor("image", ImageOptions),
    Processor("checksum", ChecksumOptions),
    Processor("compress", CompressOptions),
):
    processors.add(_built_in)
