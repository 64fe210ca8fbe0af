"""metrics.py OUT - digests of pytrec_eval's values on generated judgments and runs, for tests/metric/test_trec.c.

Case k is made from the numbers draw(k, 0), draw(k, 1), ... (SplitMix64 of a counter), by the same steps in the test. The digest of a case is
the sum, modulo 2^64, of FNV-1a over the lines "measure TAB topic TAB value" with trec_eval's format, for all measures but texts and
preferences. NaN (Rndcg without a step) counts as 0. Topics whose judgments are all negative are not made: trec_eval reads memory that it
did not write there.
"""
import math
import struct
import sys

import pytrec_eval

MASK = (1 << 64) - 1
CASES = 2400
COUNTS = {"num_q", "num_ret", "num_rel", "num_rel_ret", "num_nonrel_judged_ret"}


class Draws:
    def __init__(self, case):
        self.case, self.count = case, 0

    def below(self, bound):
        x = (self.case * 0x100000000 + self.count) * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15 & MASK
        self.count += 1
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
        x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
        return (x ^ x >> 31) % bound


def score_text(draws, style):
    whole, sign = draws.below(1000), "-" if draws.below(2) else ""
    if style == 0:
        return "%d" % (whole % 4)
    if style == 1:
        return "%s%d.%03d" % (sign, whole, draws.below(1000))
    if style == 2:
        return "%s%de%d" % (sign, whole, draws.below(60))
    if style == 3:
        return "1.00000000%03d" % whole
    if style == 4:
        return "%s0.%06d" % (sign, draws.below(1000000))
    return "7.5"


def grade(draws, style):
    x = draws.below(100)
    if style == 0:
        return int(x < 30)
    if style == 1:
        return x % 4
    if style == 2:
        return x % 5 - 2
    if style == 3:
        return int(x < 3)
    if style == 4:
        return x % 13
    return 0


def make(case):
    """(qrels lines, run lines, relevance level)"""
    draws, qrels, run = Draws(case), [], []
    level, topics = 1 + draws.below(2), 1 + draws.below(5)
    for t in range(topics):
        fate, pool = draws.below(8), 1 + draws.below(40 if case % 16 else 1300)
        grades, scores = draws.below(6), draws.below(6)
        judged = retrieved = 0
        for d in range(pool):
            where = draws.below(4)  # 0: judged, 1: retrieved, 2 and 3: both
            if fate != 0 and where != 1:
                g = grade(draws, grades)
                qrels.append("%d 0 D%d %d" % (t * 7 % 11, d, 0 if judged == 0 and g < 0 else g))
                judged += 1
            if fate != 1 and where != 0:
                run.append("%d Q0 D%d %d %s tag" % (t * 7 % 11, d, d, score_text(draws, scores)))
                retrieved += 1
    return qrels, run, level


def fnv(text):
    h = 0xCBF29CE484222325
    for b in text.encode():
        h = (h ^ b) * 0x100000001B3 & MASK
    return h


def digest(case):
    qrels, run, level = make(case)
    judgments, results = {}, {}
    for line in qrels:
        t, _, d, g = line.split()
        judgments.setdefault(t, {})[d] = int(g)
    for line in run:
        t, _, d, _, s, _ = line.split()
        results.setdefault(t, {})[d] = float(s)
    both = {t: r for t, r in results.items() if t in judgments}
    if not both:
        return 0
    names = {m for m in pytrec_eval.supported_measures if not m.startswith("prefs") and m not in ("relstring", "runid")}
    total = 0
    for topic, values in pytrec_eval.RelevanceEvaluator(judgments, names, relevance_level=level).evaluate(both).items():
        for name, value in values.items():
            if name == "num_q":
                continue
            value = 0.0 if math.isnan(value) else value
            total += fnv("%s\t%s\t%s\n" % (name, topic, "%d" % value if name in COUNTS else "%6.4f" % value))
    return total & MASK


if __name__ == "__main__":
    if len(sys.argv) == 3:  # CASE LINES: one case, readable
        qrels, run, level = make(int(sys.argv[2]))
        open(sys.argv[1] + ".qrels", "w").write("\n".join(qrels) + "\n")
        open(sys.argv[1] + ".run", "w").write("\n".join(run) + "\n")
        print("level", level, "digest %016x" % digest(int(sys.argv[2])))
    else:
        with open(sys.argv[1], "wb") as out:
            for case in range(CASES):
                out.write(struct.pack("<Q", digest(case)))
