"""Golden event file of tests/base/test_metrics.c, written by TensorBoard's own record writer and protocol buffers.

usage: event_file.py tests/golden/events/events.bin
"""
import io
import sys

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

out = io.BytesIO()
writer = RecordWriter(out)
writer.write(Event(wall_time=1764000000.5, file_version="brain.Event:2").SerializeToString())
writer.write(Event(wall_time=1764000000.5, step=8, session_log=SessionLog(status=SessionLog.START)).SerializeToString())
for step in (8, 1 << 40):
    values = [Summary.Value(tag="train/loss", simple_value=2.25 / step), Summary.Value(tag="r\u00e4te", simple_value=1e-4)]
    writer.write(Event(wall_time=1764000001.25, step=step, summary=Summary(value=values)).SerializeToString())
open(sys.argv[1], "wb").write(out.getvalue())
