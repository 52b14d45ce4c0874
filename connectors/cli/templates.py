"""What `entente connect new` prints: for each kind of connector a whole configuration, with a note at what to change."""

from __future__ import annotations

from collections.abc import Mapping

from connectors.runtime.names import default_subscription

_EXCHANGE = """\
# A connector for entente. Change the lines that are marked with "<-", then:
#   entente connect validate FILE             checks the file
#   entente connect validate FILE --connect   asks the exchange and your own systems too
#   entente connect run FILE                  runs it
# Relative paths are relative to this file. Secrets are never written here, only where they are.

[exchange]
endpoint = "exchange.example:7443"      # <- the exchange's address
ca_file = "ca.pem"                      # <- its CA
token_file = "token"                    # <- your agency's token, in a file that others may not read; renew it there
"""

_KAFKA = """
[connectors.NAME.kafka]
bootstrap = ["kafka.example:9093"]      # <- your own Kafka
ca_file = "kafka-ca.pem"                # <- its CA; or tls = true for the system's authorities
sasl_mechanism = "SCRAM-SHA-512"        # or PLAIN, SCRAM-SHA-256, OAUTHBEARER; without SASL remove these three
sasl_user = "entente"                   # <-
sasl_password = { file = "kafka-password" }     # <- or { env = "VARIABLE" }
"""

_SOURCE = """
[connectors.NAME]
plugin = "PLUGIN"
topic = "crash-reports"                 # <- the exchange's topic that you publish to
on_error = "dead-letter"                # a record that is refused: fail (stop), skip, or dead-letter (keep it, go on)
"""

_MAP = """
# How a record of yours becomes one of the exchange. Each value is a constant, or { header = "…" },
# { path = "$.…" } (JSONPath), {PLACES}; each may have table = { … } and default = "…".
[connectors.NAME.map]
type = "gov.niem.crash-driver.v1"       # <- a record type that the topic accepts
source = "//highway-patrol/crashes"     # <- begins with //your-agency/
# id = { path = "$.report.number" }     # without it one is made of the record's place, the same each time
# time = { path = "$.when" }

# A record without a value for a label is refused, never sent without it.
[connectors.NAME.map.labels]
dataclassification = "amber"            # <- or, for example:
# dataclassification = { path = "$.tlp", table = { RED = "red", AMBER = "amber" } }
# purposes = ["emergency-response"]
"""

_SINK = """
[connectors.NAME]
plugin = "PLUGIN"
topic = "crash-reports"                 # <- the exchange's topic that you subscribe to
purpose = "emergency-response"          # <- what for; your token must permit it
# subscription = "SUBSCRIPTION"         # your place in the topic; this is the default
start = "earliest"                      # where a new subscription begins; or latest
on_error = "fail"                       # what you cannot take: fail (stop), skip, or dead-letter
"""

KAFKA_SOURCE = (
    _EXCHANGE
    + _SOURCE.replace("PLUGIN", "kafka-source")
    + "tasks = 1                               # consumers in the group\n"
    + _KAFKA
    + """
[connectors.NAME.read]
topics = ["crashes"]                    # <- your topics; or pattern = "crashes\\\\..*"
# group = "entente-NAME"                # the consumer group; this is the default
start = "earliest"                      # where a group without offsets begins; or latest
dead_letter_topic = "crashes.dead-letters"      # <- on your Kafka; make it before
"""
    + _MAP.replace("{PLACES}", "{ key = true }")
)

KAFKA_SINK = (
    _EXCHANGE
    + _SINK.replace("PLUGIN", "kafka-sink")
    + _KAFKA
    + """
[connectors.NAME.write]
topic = "exchange.{topic}"              # <- over {topic}, {type} and {source_agency}; make the topics before
mode = "binary"                         # CloudEvents in headers and value; or structured (one JSON object)
key = "record"                          # or partitionkey, subject, source; only with record can withdrawals delete
notice_topic = "exchange.notices"       # <- withdrawals and the like; make it before
cursor_topic = "entente.cursors"        # <- where it has come to; make it before, with cleanup.policy=compact
"""
)

FILE_SOURCE = (
    _EXCHANGE
    + _SOURCE.replace("PLUGIN", "file-source")
    + """\
directory = "outgoing"                  # <- put files here: write them elsewhere, then rename
done = "outgoing/done"                  # where they go when the exchange has them
failed = "outgoing/failed"              # where refused ones go, with the cause beside them
format = "json"                         # a record a file; or jsonl: a record a line
"""
    + _MAP.replace("{PLACES}", "{ file = true }")
)

FILE_SINK = (
    _EXCHANGE
    + _SINK.replace("PLUGIN", "file-sink")
    + """\
directory = "incoming"                  # <- where records are written
"""
)

TEMPLATES: Mapping[str, str] = {
    "kafka-source": KAFKA_SOURCE,
    "kafka-sink": KAFKA_SINK,
    "file-source": FILE_SOURCE,
    "file-sink": FILE_SINK,
}
"""By the plugin's name; NAME stands for the connector's, SUBSCRIPTION for the one it has by default."""


def template(plugin: str, name: str) -> str:
    """A configuration of that plugin for a connector of that name. Raises KeyError."""
    subscription = default_subscription(name)
    return TEMPLATES[plugin].replace("SUBSCRIPTION", subscription).replace("NAME", name)
