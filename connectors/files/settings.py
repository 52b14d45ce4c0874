"""What file sources and sinks are configured with."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from connectors.mapping.settings import MappingSettings
from connectors.runtime.settings import ConnectorSettings, FilePath, SinkSettings

Form = Literal["json", "jsonl"]


class FileSourceSettings(ConnectorSettings):
    """A connector with `plugin = "file-source"`."""

    directory: FilePath = Field(description="Where files are put to be sent.")
    done: FilePath | None = Field(
        default=None, description='Where sent files go; default "done" in the directory.'
    )
    failed: FilePath | None = Field(
        default=None, description='Where dead letters go; default "failed" in the directory.'
    )
    format: Form | None = Field(
        default=None,
        description="`json`: one record a file; `jsonl`: one a line. Without it both, by the ending of the name.",
    )
    quiet_s: float = Field(
        default=1.0, ge=0, le=3_600, description="A file that has not changed for so long is taken."
    )
    poll_s: float = Field(default=1.0, gt=0, le=3_600, description="How often the directory is looked at.")
    max_record_bytes: int = Field(
        default=1_048_576, ge=1, le=64 * 1024 * 1024, description="Larger records are refused unread."
    )
    map: MappingSettings

    @property
    def done_directory(self) -> Path:
        """Where files go that have been sent."""
        return self.done or self.directory / "done"

    @property
    def failed_directory(self) -> Path:
        """Where dead letters go."""
        return self.failed or self.directory / "failed"

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if len({self.directory, self.done_directory, self.failed_directory}) < 3:
            raise ValueError("directory, done and failed must be different directories")
        return self


class FileSinkSettings(SinkSettings):
    """A connector with `plugin = "file-sink"`."""

    directory: FilePath = Field(description="Where records are written.")
    notices: FilePath | None = Field(
        default=None, description='Where notices are written; default "notices" in the directory.'
    )
    format: Form = Field(default="json", description="`json`: one record a file; `jsonl`: one a line.")
    segment_records: int = Field(
        default=10_000, ge=1, le=10_000_000, description="A JSONL file is complete with so many lines."
    )
    segment_bytes: int = Field(default=64 * 1024 * 1024, ge=1, le=2**40, description="Or with so many bytes.")
    segment_s: float = Field(default=60.0, gt=0, le=86_400, description="Or after so long.")
    withdrawn: Literal["keep", "remove"] = Field(
        default="keep",
        description="Whether the file of a withdrawn record stays beside the note that it is withdrawn.",
    )
    group_readable: bool = Field(default=False, description="Files get mode 0640 instead of 0600.")

    @property
    def notices_directory(self) -> Path:
        """Where notices go."""
        return self.notices or self.directory / "notices"

    @property
    def file_mode(self) -> int:
        """The permissions of what is written."""
        return 0o640 if self.group_readable else 0o600

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.withdrawn == "remove" and self.format == "jsonl":
            raise ValueError(
                'withdrawn = "remove" needs format = "json": lines of a file are not taken out again'
            )
        return self
