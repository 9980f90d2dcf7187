"""A second implementation of docs/protocol.md, written from that text alone: it shares no code with what it tests."""
