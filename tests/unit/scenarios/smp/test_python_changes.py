"""What a Python file does to its options after it has written them: it is followed, or the file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadahead.scenarios.loader import load_scenario, options_file
from loadahead.sim.errors import InputError

# "CHANGE" stands where the file changes what it has written.
FILE = """import json, logging
KEY, N, other = "microbatches", 4, {"a": 1}
params = {"microbatches": N, "partitions": 2}
CHANGE
options = {"enabled": True, "parameters": params}
estimator = PyTorch(role=role, distribution={"smdistributed": {"modelparallel": options}})
"""


def read(folder: Path, text: str) -> int:
    path = folder / "train.py"
    path.write_text(text, encoding="utf-8")
    return load_scenario(path).parallel.microbatches


# Each is one that Python itself runs; what it makes of microbatches stands beside it.
FOLLOWED = [
    ("params[KEY] = 16", 16),
    ("params['micro' + 'batches'] = 4 * 4", 16),
    ("params.update({'microbatches': 16})", 16),
    ("params.update({KEY: 16}, partitions=2)", 16),
    ("params.update(**{'microbatches': 16})", 16),
    ("params |= {'microbatches': 16}", 16),
    ("params = params | {'microbatches': 16}", 16),
    ("params = {**params, 'microbatches': 16}", 16),
    ("params.__setitem__('microbatches', 16)", 16),
    ("params.setdefault('microbatches', 16)", 4),
    ("params.setdefault('fp16', True)", 4),
    ("params.pop('microbatches')", 1),
    ("del params['microbatches']", 1),
    ("alias = params\nalias['microbatches'] = 16", 16),
    ("copied = params.copy()\ncopied['microbatches'] = 16", 4),
    ("import copy\ncopied = copy.deepcopy(params)\nother.update(copied)\ncopied['microbatches'] = 16", 4),
    ("N += 12\nparams['microbatches'] = N", 16),
    ("(held,) = [params]\nheld['microbatches'] = 16", 16),
    ("a, N = 8, 16\nparams['microbatches'] = N", 16),
    ("N, M = 16, N\nparams['microbatches'] = M", 4),
    ("params[f'micro{\"batches\"}'] = params.get('microbatches') * 4", 16),
    # These only read.
    ("print(params, len(params), str(params))", 4),
    ("logging.info('%s', params)\nlogging.getLogger('a').debug(json.dumps(params))", 4),
    ("for k, v in params.items():\n    print(k, v)", 4),
    ("assert params['microbatches'] > 2 and 'fp16' not in params", 4),
    ("Estimator(hyperparameters=params).fit('s3://a')", 4),
    ("text = f'{params} {params[KEY]}'\nsend(text)", 4),
    ("first = PyTorch(distribution={'mpi': params})\nfirst.fit()", 4),
    # What is set here is not what the options have.
    ("import os\nfor k, v in params.items():\n    os.environ[k] = str(v)", 4),
    ("def f(params):\n    params['microbatches'] = 16", 4),
    ("def f():\n    params = {}\n    params['microbatches'] = 16", 4),
    ("from config import A", 4),
]


def run(change: str) -> int:
    """Return what Python makes of microbatches."""

    class Estimator:
        def __init__(self, **given: object) -> None:
            self.given = given

        def fit(self, *_: object) -> None:
            pass

    names = {"PyTorch": Estimator, "Estimator": Estimator, "role": None, "send": print}
    change = change.replace("from config import A", "").replace("os.environ[k]", "os_environ[k]")
    exec(FILE.replace("CHANGE", "os_environ = {}\n" + change), names)
    parameters = names["options"]["parameters"]  # type: ignore[index]
    return int(parameters.get("microbatches", 1))


@pytest.mark.parametrize(("change", "microbatches"), FOLLOWED)
def test_what_is_followed(tmp_path: Path, change: str, microbatches: int) -> None:
    assert run(change) == microbatches
    assert read(tmp_path, FILE.replace("CHANGE", change)) == microbatches


@pytest.mark.parametrize(
    ("change", "line", "key"),
    [
        ("for k, v in other.items(): params[k] = v", 4, "parameters"),
        ("for k in ('microbatches',): params[k] = 16", 4, "parameters"),
        ("for one in (params,): one['microbatches'] = 16", 4, "microbatches|parameters"),
        ("for one in [params]:\n    one['microbatches'] = 16", 5, "microbatches|parameters"),
        ("while True: params['microbatches'] = 16", 4, "microbatches"),
        ("params.update(load())", 4, "parameters"),
        ("params.update({k: 16 for k in ('microbatches',)})", 4, "parameters"),
        ("params.update([('microbatches', 16)])", 4, "parameters"),
        ("params[key()] = 16", 4, "parameters"),
        ("params[key()] += 16", 4, "parameters"),
        ("params['microbatches'] += n()", 4, "microbatches"),
        ("change(params)", 4, "parameters"),
        ("x = change(a, *[params])", 4, "parameters"),
        ("change(options={'a': params})", 4, "parameters"),
        ("print(change(params))", 4, "parameters"),
        ("def print(p): p['microbatches'] = 16\nprint(params)", 5, "parameters"),
        ("params.__setitem__(key(), 16)", 4, "parameters"),
        ("dict.__setitem__(params, 'microbatches', 16)", 4, "parameters"),
        ("params.setdefault(key(), 16)", 4, "parameters"),
        ("x = params.pop('microbatches')", 4, "microbatches"),
        ("params.pop(key())", 4, "parameters"),
        ("params.clear()", 4, "parameters"),
        ("params |= load()", 4, "parameters"),
        ("params = params | load()", 4, "parameters"),
        ("del params[key()]", 4, "parameters"),
        ("big() and params.update(microbatches=16)", 4, "parameters"),
        ("[params.update(microbatches=n) for n in (8, 16)]", 4, "parameters"),
        ("[one.update(microbatches=16) for one in (params,)]", 4, "parameters"),
        ("f = lambda: params.update(microbatches=16)\nf()", 4, "parameters"),
        ("f = lambda: params\nf()['microbatches'] = 16", 5, "parameters"),
        ("alias = params if big() else other\nalias['microbatches'] = 16", 5, "parameters"),
        ("alias = big() or params\nalias['microbatches'] = 16", 5, "parameters"),
        ("held = [params]\nheld[0]['microbatches'] = 16", 5, "parameters"),
        ("held, *rest = params, 1\nheld['microbatches'] = 16", 5, "parameters"),
        ("class A: pass\nA.params = params\nA.params['microbatches'] = 16", 5, "parameters"),
        ("class A: mine = params\nA.mine['microbatches'] = 16", 5, "parameters"),
        ("class A:\n    mine = params\n    def f(self): self.mine['microbatches'] = 16\nA().f()", 6, "parameters"),
        ("if big(): params['microbatches'] = 16", 4, "microbatches"),
        ("if big(): params = {'microbatches': 16}", 4, "parameters"),
        ("try:\n    params['microbatches'] = int('x')\nexcept ValueError: pass", 5, "microbatches"),
        ("match N:\n    case 4: params['microbatches'] = 16", 5, "microbatches"),
        ("def f(): params['microbatches'] = 16\nf()", 4, "parameters"),
        ("def f():\n    mine = params\n    mine['microbatches'] = 16\nf()", 6, "parameters"),
        ("def f(): return params\nf()['microbatches'] = 16", 4, "parameters"),
        ("def f(p=params): p['microbatches'] = 16\nf()", 4, "parameters"),
        ("def f():\n    global params\n    params = {}\nf()", 6, "parameters"),
        ("change = params.update\nchange(microbatches=16)", 5, "parameters"),
        # What is changed is known when a loop comes round again, in a function that stands in loops itself.
        (
            "for i in x:\n def f():\n  a = {}\n  for j in x:\n   a['microbatches'] = 16\n   a = params\n f()",
            8,
            "parameters",
        ),
        (
            "for i in x:\n def f():\n  for j in x:\n   def g():\n    a = {}\n"
            "    for k in x:\n     a[KEY] = 16\n     a = params",
            10,
            "parameters",
        ),
        (
            "for i in x:\n class A:\n  mine = params\n  def f(self):\n   a = {}\n"
            "   for k in x:\n    a[KEY] = 16\n    a = self.mine",
            10,
            "parameters",
        ),
        ("list(map(lambda p: p.update(microbatches=16), [params]))", 4, "parameters"),
        ("sorted([params], key=lambda p: p.update(microbatches=16))", 4, "parameters"),
        ("for params['microbatches'] in (8, 16): pass", 4, "parameters"),
        ("class A(B, options=params): pass", 4, "parameters"),
        ("locals()['params']['microbatches'] = 16", 4, "parameters"),
        ("vars()['params']['microbatches'] = 16", 4, "parameters"),
        ("exec(code)", 4, "parameters"),
        ("globals()['params'] = 1", 4, "parameters"),
        ("from config import params", 4, "parameters"),
        ("from config import *", 4, "parameters"),
        ("import params", 4, "parameters"),
        ("if (params := load()): pass", 4, "parameters"),
        ("match other:\n    case {'a': params}: pass", 5, "parameters"),
        ("match other:\n    case {**params}: pass", 5, "parameters"),
        ("with open('a') as params: pass", 4, "parameters"),
        ("del params", 4, "parameters"),
        ("params.update(fp16=True)\nfrom config import N\nparams['microbatches'] = N", 6, "microbatches"),
        ("def f():\n    global N\n    N = 16\nf()\nparams['microbatches'] = N", 8, "microbatches"),
        ("(N := 16)\nparams['microbatches'] = N", 5, "microbatches"),
        ("match 16:\n    case N: params['microbatches'] = N", 5, "microbatches"),
        ("match 16:\n    case N: pass\nparams['microbatches'] = N", 6, "microbatches"),
        ("del N\nparams['microbatches'] = N", 5, "microbatches"),
        ("N += n()\nparams['microbatches'] = N", 5, "microbatches"),
        ("from config import *\nparams = {'microbatches': N}", 5, "microbatches"),
    ],
)
def test_what_is_not_followed_is_refused(tmp_path: Path, change: str, line: int, key: str) -> None:
    """The options' old values would be another step's."""
    compile(change, "change", "exec")
    with pytest.raises(InputError) as caught:
        read(tmp_path, FILE.replace("CHANGE", change))
    text = str(caught.value)
    assert any(f"{one} is " in text for one in key.split("|")), text
    assert "which only running the file would tell; write the " in text
    found = int(text.partition("train.py line ")[2].partition(":")[0])
    # A name that may stand for something else is told where it is used.
    assert found in (line, FILE.replace("CHANGE", change).count("\n") - 1), text


@pytest.mark.parametrize(
    "change",
    ["params['fp16'] = load()", "for n in (1, 2): params['ddp_port'] = n", "params.setdefault('skip_tracing', f())"],
)
def test_a_key_that_changes_no_prediction_may_be_anything(tmp_path: Path, change: str) -> None:
    assert read(tmp_path, FILE.replace("CHANGE", change)) == 4


def test_a_change_after_the_call_in_a_loop_is_there_in_its_next_turn(tmp_path: Path) -> None:
    text = FILE.replace("CHANGE", "").partition("estimator")[0] + "for _ in (1, 2):\n    PyTorch(distribution="
    text += "{'smdistributed': {'modelparallel': options}})\n    params['microbatches'] = 16\n"
    with pytest.raises(InputError, match="line 7: distribution differs with when it is run"):
        read(tmp_path, text)
    # In a function, too, that stands in a loop and has the options itself.
    inside = "for _ in x:\n def f():\n  " + text.replace("import json, logging\n", "").replace("\n", "\n  ")
    with pytest.raises(InputError, match="line 8: distribution differs with when it is run"):
        read(tmp_path, inside)


@pytest.mark.parametrize("after", ["params['microbatches'] = 16", "params = {'microbatches': 16}"])
def test_a_function_may_be_called_after_a_change(tmp_path: Path, after: str) -> None:
    call = "    return PyTorch(distribution={'smdistributed': {'modelparallel': {'parameters': params}}})\n"
    text = f"params = {{'partitions': 2, 'microbatches': 4}}\ndef launch():\n{call}"
    assert read(tmp_path, text + "launch()\n") == 4
    with pytest.raises(InputError, match="differs with when it is run"):
        read(tmp_path, text + after + "\nlaunch()\n")


DISTRIBUTION = "dist = {'smdistributed': {'modelparallel': {'parameters': {'partitions': 2}}}}\n"


def test_arguments_that_come_in_a_dictionary(tmp_path: Path) -> None:
    text = DISTRIBUTION + "kw = {'instance_type': 'ml.p4d.24xlarge', 'instance_count': 2}\n"
    path = tmp_path / "train.py"
    for call in ("PyTorch(distribution=dist, **kw)", "kw['distribution'] = dist\nPyTorch(**kw)"):
        path.write_text(text + call, encoding="utf-8")
        scenario = load_scenario(path)
        assert (scenario.hardware.machine, scenario.parallel.data_parallel_degree) == ("p4d.24xlarge", 8)


def test_arguments_that_may_hide_the_instances(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(DISTRIBUTION + "PyTorch(distribution=dist, instance_type='ml.p4d.24xlarge', **load())\n")
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    assert str(caught.value) == (
        f"{path} line 2: instance_count is perhaps in **load(), which only running the file would tell; write the value"
    )
    path.write_text(DISTRIBUTION + "PyTorch(distribution=dist, instance_type='ml.p4d.24xlarge', instance_count=1, **k)")
    assert options_file(path).conversion().degrees.hosts == 1


@pytest.mark.parametrize("deep", [3, 90])
def test_loops_and_functions_inside_each_other_are_quick(tmp_path: Path, deep: int) -> None:
    """Each is gone through twice, which must not double with every one around it."""
    loops = "".join(f"{'  ' * n}{'for i in x:' if n % 2 else f'def f{n}():'}\n" for n in range(deep))
    assert read(tmp_path, FILE.replace("CHANGE", loops + "  " * deep + "pass")) == 4
