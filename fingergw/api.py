"""The public API for packages that provide types of backends; import nothing else of fingergw."""

from fingergw.core.addresses import Network
from fingergw.core.errors import ConfigError
from fingergw.core.outcome import Answered, Backend, Failed, Freshness, Missing, Outcome, Unchanged
from fingergw.core.placeholders import Template
from fingergw.core.query import Query
from fingergw.core.setting_types import (
    Argv,
    AuthoritiesFile,
    Bytes,
    Count,
    ExitCode,
    FilePath,
    HeaderName,
    HeaderValue,
    HostName,
    Jinja,
    Name,
    Period,
    Port,
    ProgramPath,
    Seconds,
    SecretFile,
    Status,
    Url,
    Variable,
    WatchedFile,
)
from fingergw.core.settings import Waits, setting, settings
from fingergw.net.http.charsets import Charset
from fingergw.net.site import Convert, Keywords, Site
from fingergw.net.workers.conversions import Conversion
from fingergw.net.workers.pool import ConversionError

__all__ = [
    "Answered",
    "Argv",
    "AuthoritiesFile",
    "Backend",
    "Bytes",
    "Charset",
    "ConfigError",
    "Conversion",
    "ConversionError",
    "Convert",
    "Count",
    "ExitCode",
    "Failed",
    "FilePath",
    "Freshness",
    "HeaderName",
    "HeaderValue",
    "HostName",
    "Jinja",
    "Keywords",
    "Missing",
    "Name",
    "Network",
    "Outcome",
    "Period",
    "Port",
    "ProgramPath",
    "Query",
    "Seconds",
    "SecretFile",
    "Site",
    "Status",
    "Template",
    "Unchanged",
    "Url",
    "Variable",
    "Waits",
    "WatchedFile",
    "setting",
    "settings",
]
