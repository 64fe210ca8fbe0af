"""metrics.py CRANK - all of trec_eval's measures of 1,000 topics x 1,000 documents, from the two files: crank metrics beside pytrec_eval.

Both sides read the same files and use one process; pytrec_eval reads them with its own parse_qrel and parse_run. Every per-topic value that both
print must have the same digits. The best of the runs counts; processor
seconds stand beside, since other programs may share the cores."""
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytrec_eval

crank, folder = sys.argv[1], tempfile.mkdtemp()
qrels, run = os.path.join(folder, "qrels"), os.path.join(folder, "run")
random = np.random.default_rng(1)
with open(qrels, "w") as q, open(run, "w") as r:
    for topic in range(1000):
        documents = random.permutation(20000)
        for d, g in zip(documents[:200], random.integers(0, 4, 200) * (random.random(200) < 0.3)):
            q.write("%d 0 clueweb09-en%07d %d\n" % (topic, d, g))
        retrieved = np.concatenate([documents[:120], documents[1000:1880]])
        scores = np.sort(random.normal(10, 3, 1000))[::-1]
        for rank, (d, s) in enumerate(zip(random.permutation(retrieved), scores)):
            r.write("%d Q0 clueweb09-en%07d %d %.6f bench\n" % (topic, d, rank + 1, s))


def processor_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def best(function, times):
    """(least wall seconds, least processor seconds, last result)"""
    wall, processor = [], []
    for _ in range(times):
        start, used = time.perf_counter(), processor_seconds()
        result = function()
        wall.append(time.perf_counter() - start)
        processor.append(processor_seconds() - used)
    return min(wall), min(processor), result


def theirs():
    with open(qrels) as q, open(run) as r:
        judgments, results = pytrec_eval.parse_qrel(q), pytrec_eval.parse_run(r)
    return pytrec_eval.RelevanceEvaluator(judgments, {"all_trec"}).evaluate(results)


def ours(threads):
    return subprocess.run([crank, "metrics", "--threads", str(threads), "-q", "-m", "all_trec", qrels, run], capture_output=True, check=True, text=True).stdout


slow, slow_used, values = best(theirs, 5)
compared = 0
for line in ours(1).splitlines():
    name, topic, text = (word.strip() for word in line.split("\t"))
    if name != "relstring" and topic in values and name in values[topic]:
        value = values[topic][name]
        assert text in ("%.4f" % value, "%d" % value), (line, value)
        compared += 1
print("pytrec_eval       %7.3f s, %7.3f s of processor time" % (slow, slow_used))
for threads in (1, 2):
    fast, fast_used, _ = best(lambda: ours(threads), 15)
    print("crank, threads: %d %7.3f s, %7.3f s of processor time: %.1f and %.1f times faster" % (threads, fast, fast_used, slow / fast, slow_used / fast_used))
print("%d values have the same digits; files of %.1f MB" % (compared, (os.path.getsize(qrels) + os.path.getsize(run)) / 1e6))
