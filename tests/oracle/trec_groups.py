"""trec_groups.py TREC_EVAL_9 TREC_EVAL_10 OUT - what NIST's program prints for judgments by groups, preferences and Z scores, for
tests/cli/test_metrics_groups.c.

The programs are built from NIST's sources (github.com/usnistgov/trec_eval, tags v9.0.8 and v10.0, `make`). OUT is text: for each case a line
"case WORDS", and behind lines "judgments", "run", "zscores" and "want" the files and the output. Groups do not contradict themselves.
"""
import random
import subprocess
import sys
import tempfile

MEASURES = {"prefs": "all_prefs", "qrels_prefs": "all_prefs", "qrels_jg": "qrels_jg", "qrels": "all_trec"}


def levels(rng, documents, binary):
    """Level of each document, some of them 0."""
    return {d: rng.choice([0, 1] if binary else [0, 0, 1, 1.5, 2, 3, 7]) for d in documents}


def judgments(rng, form, topics):
    lines = []
    for t in topics:
        pool = ["D%d" % d for d in range(rng.randint(3, 24))]
        for g in range(rng.choice([1, 1, 2, 4])):
            documents = rng.sample(pool, rng.randint(2, len(pool)))
            level = levels(rng, documents, rng.random() < 0.3)
            if form in ("qrels", "qrels_jg"):
                lines += ["%s %s %s %d" % (t, "u%d" % g if form == "qrels_jg" else "0", d, rng.choice([-1, 0, 0, 1, 2, 3])) for d in documents]
                if form == "qrels":
                    break
            elif form == "qrels_prefs":
                lines += ["%s u%d %s %g" % (t, g, d, level[d]) for d in documents]
            else:
                for s in range(rng.choice([1, 1, 2, 3, 5])):
                    part = rng.sample(documents, rng.randint(2, len(documents)))
                    lines += ["%s u%d s%d %s %g" % (t, g, s, d, level[d]) for d in part]
    rng.shuffle(lines)
    return lines


def results(rng, topics):
    lines = []
    for t in topics:
        for d in rng.sample(range(30), rng.randint(1, 26)):
            score = rng.choice(["%d" % rng.randint(0, 4), "%.4f" % rng.random(), "1.000000000%d" % rng.randint(0, 9)])
            lines.append("%s Q0 D%d 0 %s tag" % (t, d, score))
    return lines


def run(program, words, files):
    with tempfile.TemporaryDirectory() as folder:
        names = {}
        for name, lines in files.items():
            names[name] = "%s/%s" % (folder, name)
            open(names[name], "w").write("\n".join(lines) + "\n")
        command = [program] + [names.get(w, w) for w in words] + [names["judgments"], names["run"]]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit("%s: %d %s" % (command, done.returncode, done.stderr))
        return done.stdout.splitlines()


def reference(rng, plain):
    """Means and deviations around some of the values that a plain run has. NIST's search reads one line too far: a last topic and a last
    measure of each topic stand where it looks."""
    lines = ["~ ~ 0 1"] + ["t%d ~ 0 1" % t for t in range(3)]
    for line in plain:
        name, topic, value = (x.strip() for x in line.split("\t"))
        if topic == "all" or name == "relstring" or rng.random() < 0.1:
            continue
        lines.append("%s %s %.4f %.4f" % (topic, name, float(value) + rng.uniform(-0.2, 0.2) * (rng.random() < 0.8), rng.choice([0, 0.05, 0.3, 2])))
    return lines


def main(nine, ten, path):
    rng, out = random.Random(7), []
    forms = ["prefs"] * 4 + ["qrels_prefs"] * 2 + ["qrels_jg"] * 2 + ["qrels"]
    for case in range(108):
        form, version = forms[case % len(forms)], 9 + case // len(forms) % 2
        topics = ["t%d" % t for t in range(rng.randint(1, 3))]
        complete = rng.random() < 0.3
        words = ["-R", form, "-m", MEASURES[form]] + ["-q"]
        words += ["-c"] if complete else []
        words += ["-M", str(rng.randint(2, 12))] if rng.random() < 0.25 else []
        words += rng.choice([["-J"], ["-l", "2"], []]) if form == "qrels_jg" else []
        files = {"judgments": judgments(rng, form, topics), "run": results(rng, topics[:1] if complete else topics)}
        program = nine if version == 9 else ten
        if form == "qrels":
            files["zscores"] = reference(rng, run(program, words, files))
            words += ["-Z", "zscores"]
        out.append("case --trec-eval %d %s" % (version, " ".join(words)))
        for name, lines in files.items():
            out += [name] + lines
        out += ["want"] + run(program, words, files)
    open(path, "w").write("\n".join(out) + "\nend\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
