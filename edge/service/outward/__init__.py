"""The outward connections: a webhook and an MQTT broker get the records, also after a pause."""
