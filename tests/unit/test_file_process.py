"""The payload of `file_process` as a front door checks it: no worker, no ffmpeg."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from celeriac.errors import InvalidSubmissionError, SettingsError
from celeriac.settings import Settings, load_settings
from celeriac.tasks.request import read_request
from celeriac.tasks.submission import build_submission
from celeriac.tasks.types.file_process import FILE_PROCESS, FilePayload, plan_of
from celeriac.tasks.types.processors import FileJob, Processor, Processors, processor

SETTINGS = Settings.model_validate(
    {
        "files": {
            "processing": {
                "chains": {
                    "video": ["transcode", {"processor": "thumbnail", "of": "result", "options": {"width": 64}}],
                    "broken": ["no_such_processor"],
                }
            }
        }
    }
)


#: Those of the default settings.
CHAINS = Settings().files.processing.chains


def refused(payload: dict[str, Any], settings: Settings = SETTINGS) -> list[tuple[str, str]]:
    """Return field and message of each violation."""
    request = read_request({"type": "file_process", "payload": payload})
    with pytest.raises(InvalidSubmissionError) as caught:
        build_submission(request, settings, {"file_process": FILE_PROCESS})  # type: ignore[arg-type]
    return [(violation.field, violation.message) for violation in caught.value.violations]


def test_the_chain_of_the_settings_is_the_default() -> None:
    plan = plan_of(FilePayload(), CHAINS)
    assert plan.chain
    assert [(step.processor.name, step.of) for step in plan.steps] == [
        ("transcode", "original"),
        ("thumbnail", "result"),
        ("probe", "result"),
    ]


def test_options_of_a_chain_are_those_of_the_settings_and_of_the_payload_by_step() -> None:
    plan = plan_of(
        FilePayload(options={"thumbnail": {"percent": 50}, "transcode": {"crf": 30}}), SETTINGS.files.processing.chains
    )
    transcode, thumbnail = (step.options.model_dump() for step in plan.steps)
    assert transcode["crf"] == 30
    assert (thumbnail["width"], thumbnail["percent"]) == (64, 50)


@pytest.mark.parametrize(
    ("payload", "field", "says"),
    [
        ({"processor": "transcod"}, "payload.processor", "did you mean transcode?"),
        ({"processor": "zzz"}, "payload.processor", "known are: "),
        ({"processor": "broken"}, "payload.processor", "no_such_processor"),
        ({"processor": ""}, "payload.processor", "at least 1 character"),
        ({"processor": "transcode", "options": {"crff": 3}}, "payload.options.crff", "did you mean crf?"),
        ({"processor": "transcode", "options": {"crf": 99}}, "payload.options.crf", "less than or equal to 51"),
        ({"processor": "transcode", "options": {"crf": "23"}}, "payload.options.crf", "valid integer"),
        ({"processor": "transcode", "options": {"start": "soon"}}, "payload.options.start", "not a duration"),
        ({"processor": "checksum", "options": {"algorithms": ["crc"]}}, "payload.options.algorithms.0", "sha256"),
        ({"processor": "compress", "options": {"algorithm": "gzip", "level": 19}}, "payload.options", "levels 1 to 9"),
        ({"processor": "image", "options": {"fit": "cover"}}, "payload.options", "both width and height"),
        ({"processor": "thumbnail", "options": {"at": 1, "percent": 1}}, "payload.options", "exclude each other"),
        ({"processor": "probe", "options": {"x": 1}}, "payload.options.x", "known are: (none)"),
        ({"options": {"probes": {}}}, "payload.options.probes", "no such step of 'video'"),
        ({"options": {"transcode": 5}}, "payload.options.transcode", "JSON object"),
        ({"options": {"transcode": {"crf": -1}}}, "payload.options.transcode.crf", "greater than or equal to 0"),
        ({"options": []}, "payload.options", "JSON object"),
        ({"pth": "/x"}, "payload.pth", "no such field"),
        ({"path": "/x", "file_id": "y"}, "payload", "exclude each other"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_field(payload: dict[str, Any], field: str, says: str) -> None:
    [(named, message)] = refused(payload)
    assert named == field
    assert says in message


def test_an_unknown_processor_is_answered_with_those_that_there_are() -> None:
    [(_, message)] = refused({"processor": "zzz"})
    known = message.partition("known are: ")[2].split(", ")
    assert known == sorted(known)
    assert {"broken", "checksum", "compress", "image", "probe", "thumbnail", "transcode", "video"} <= set(known)


def test_the_schema_has_the_options_of_each_processor() -> None:
    schema = FILE_PROCESS.json_schema()
    branches = {branch["if"]["properties"]["processor"]["const"]: branch["then"] for branch in schema["allOf"]}
    assert {"transcode", "thumbnail", "image", "checksum", "compress", "probe"} <= set(branches)
    assert branches["transcode"]["properties"]["options"]["properties"]["crf"]["maximum"] == 51
    assert schema["properties"]["processor"]["default"] == "video"


@pytest.mark.parametrize(
    ("chain", "says"), [([], "has no steps"), (["probe", "probe"], "twice"), ([{"processor": "p", "off": 1}], "off")]
)
def test_a_chain_that_cannot_be_is_refused_at_the_start(chain: Any, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load_settings(overrides={"files": {"processing": {"chains": {"mine": chain}}}}, environ={})


def test_well_known_names_of_the_environment() -> None:
    environ = {"FFMPEG_BINARY": "/opt/ffmpeg", "LOCAL_STORAGE_PATH": "/srv", "ALLOWED_FILE_ROOTS": "/a:/b"}
    files = load_settings(environ=environ).files
    assert str(files.processing.ffmpeg) == "/opt/ffmpeg"
    assert str(files.storage_path) == "/srv"
    assert [str(root) for root in files.allowed_roots or []] == ["/a", "/b"]


class Shouting(BaseModel):
    loud: bool


def shout(job: FileJob, options: Shouting) -> dict[str, Any]:
    return {}


def test_a_processor_is_found_again_by_its_module_and_name() -> None:
    with pytest.raises(SettingsError, match="function of a module"):
        processor("inner")(lambda job, options: {})
    with pytest.raises(SettingsError, match="not a valid name"):
        processor("Inner Name")
    known = Processors()
    added = known.add(Processor("shout", Shouting, shout))
    assert added.target == f"{__name__}:shout"
    known.add(Processor("shout", Shouting, shout))
    with pytest.raises(SettingsError, match="two file processors"):
        known.add(Processor("shout", Shouting, refused))  # type: ignore[arg-type]
    payload = FilePayload(processor="shout", options={"loud": True, "ignored": 1})
    [step] = plan_of(payload, CHAINS, known).steps
    assert step.options == Shouting(loud=True)
    with pytest.raises(InvalidSubmissionError, match=r"payload\.options\.loud"):
        plan_of(FilePayload(processor="shout"), CHAINS, known)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "original.mp4", "", "a b", "x\n", "é"])
def test_output_files_have_plain_names(name: str, tmp_path: Any) -> None:
    job = FileJob(source=tmp_path / "s", folder=tmp_path, limits=None, report=print)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not a valid name for an output"):
        job.output(name)
    assert job.output("result.mp4") == tmp_path / "result.mp4"
    assert job.output("result.mp4") == tmp_path / "result.mp4"
    assert job.outputs == ["result.mp4"]
