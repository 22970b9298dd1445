"""The plug-in for ``twistd fingergw``. It is installed into ``twisted/plugins`` too, where twistd finds it."""

from twisted.application.service import ServiceMaker

fingergw = ServiceMaker("fingergw", "fingergw.app.tap", "A finger (RFC 1288) gateway from one TOML file", "fingergw")
