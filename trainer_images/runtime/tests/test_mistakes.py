"""Softmax before CrossEntropyLoss: said where it is sure, and never of a script that is right."""

from __future__ import annotations

from pathlib import Path

import pytest
from launching import Gang

from trainwright_runtime.launch import mistakes

TORCH = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.act = nn.Softmax(dim=1)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, x):
        x = self.layer(x)
{end}

model = Net().to("cpu")
"""
LOOP = """
criterion = nn.CrossEntropyLoss()
for x, y in loader:
    out = model(x)
    loss = criterion(out, y)
    loss.backward()
"""


def network(*end: str) -> str:
    """A network whose forward ends with these lines."""
    return TORCH + NET.format(end="\n".join(f"        {line}" for line in end))


TRAINED_BY_FUNCTION = """
def train(model, criterion):
    for x, y in loader:
        loss = criterion(model(x), y)

train(model, nn.CrossEntropyLoss())
"""
WRONG = {
    "returned by forward": network("return F.softmax(x, dim=1)") + LOOP,
    "a method of the tensor": network("return x.softmax(1)") + LOOP,
    "by a name on the way": network("x = torch.softmax(x, dim=1)", "return x") + LOOP,
    "a layer that forward ends with": network("return self.act(x)") + LOOP,
    "a layer made on the spot": network("return nn.Softmax(dim=1)(x)") + LOOP,
    "the last of a Sequential": TORCH + "model = nn.Sequential(nn.Linear(64, 10), nn.Softmax(dim=1))\n" + LOOP,
    "in a model that is wrapped": network("return self.act(x)") + "model = torch.compile(model)\n" + LOOP,
    "between model and loss": network("return x") + LOOP.replace("model(x)", "F.softmax(model(x), dim=1)"),
    "in the call of the loss": network("return x") + LOOP.replace("criterion(out", "criterion(torch.softmax(out, 1)"),
    "into the function": network("return x") + LOOP.replace("criterion(out", "F.cross_entropy(F.softmax(out, 1)"),
    "by the name of the argument": network("return x")
    + LOOP.replace("criterion(out, y)", "F.cross_entropy(input=F.softmax(out, 1), target=y)"),
    "in a function below the model": network("return self.act(x)")
    + LOOP.replace("for x", "def step():\n  for x").replace("\n    ", "\n      "),
    "in a function above the model": TORCH
    + "criterion = None\ndef train(model):\n    criterion = nn.CrossEntropyLoss()\n    for x, y in loader:\n"
    + "        loss = criterion(model(x), y)\n"
    + network("return F.softmax(x, 1)")
    + "train(model)\n",
    "in main": network("return F.softmax(x, 1)").replace("\nmodel = ", "\ndef main():\n    model = ")
    + LOOP.replace("\n", "\n    ")
    + "\nmain()\n",
}
RIGHT = {
    "scores": network("return x") + LOOP,
    "log_softmax, which changes nothing when taken twice": network("return F.log_softmax(x, dim=1)") + LOOP,
    "a layer that is called softmax and is another": network("return self.softmax(x)") + LOOP,
    "softmax with NLLLoss": network("return self.act(x)") + LOOP.replace("CrossEntropyLoss", "NLLLoss"),
    "where probabilities are shown": network("return x") + LOOP + "print(F.softmax(model(x), dim=1))\n",
    "beside the loss": network("return x") + LOOP.replace("    loss =", "    shown = F.softmax(out, dim=1)\n    loss ="),
    "only when it isn't training, by value": network("return x if self.training else F.softmax(x, dim=1)") + LOOP,
    "only when it isn't training, by branch": network("if not self.training:", "    x = F.softmax(x, dim=1)", "return x") + LOOP,
    "only when it isn't training, by return": network("if self.training:", "    return x", "return F.softmax(x, dim=1)") + LOOP,
    "in a branch without a loss": network("return x")
    + LOOP.replace(
        "    loss =", "    if shown:\n        out = F.softmax(out, 1)\n        print(out)\n        continue\n    loss ="
    ),
    "attention on the way": network("weights = F.softmax(x, dim=-1)", "return self.layer(weights * x)") + LOOP,
    "one of two results": network("return x, F.softmax(x, dim=1)") + LOOP.replace("out = model", "out, shown = model"),
    "a target of probabilities": network("return x")
    + LOOP.replace("criterion(out, y)", "criterion(out, F.softmax(teacher(x), 1))"),
    "a part of a Sequential": TORCH + "model = nn.Sequential(nn.Softmax(dim=1), nn.Linear(64, 10))\n" + LOOP,
    "layers that are not known": TORCH + "model = nn.Sequential(*layers)\n" + LOOP,
    "another model": network("return self.act(x)").replace("model = Net()", "policy = Net()") + LOOP,
    "a model that only shows": network("return x")
    + "class Shown(nn.Module):\n    def forward(self, x):\n        return F.softmax(model(x), dim=1)\nshown = Shown()\n"
    + LOOP,
    "two models of one name": network("return self.act(x)") + "model = Other()\n" + LOOP,
    "a cross_entropy of one's own": TORCH
    + "def cross_entropy(p, y):\n    return -p[y].log()\nloss = cross_entropy(F.softmax(x, 0), y)\n",
    "a cross_entropy of another library": TORCH + "from other import cross_entropy\nloss = cross_entropy(F.softmax(x, 0), y)\n",
    "no loss at all": network("return self.act(x)"),
    "no Python": "this is no Python",
}


def said(folder: Path, text: str) -> str | None:
    path = folder / "train.py"
    path.write_text(text)
    return mistakes.warning_on(path)


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in WRONG.items()])
def test_softmax_before_cross_entropy_is_seen(tmp_path: Path, text: str) -> None:
    warning = said(tmp_path, text)
    assert warning is not None
    line = int(warning.removeprefix("train.py, line ").partition(":")[0])
    assert "oftmax" in text.splitlines()[line - 1], "the line that is to be changed"


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in RIGHT.items()])
def test_what_may_be_right_is_not_spoken_of(tmp_path: Path, text: str) -> None:
    assert said(tmp_path, text) is None


def test_no_script_of_the_samples_and_recipes_is_spoken_of() -> None:
    scripts = sorted(Path(__file__).parents[2].glob("*/trainwright_*/**/*.py"))
    assert len(scripts) > 40
    assert [one for one in scripts if mistakes.warning_on(one)] == []


@pytest.mark.parametrize("verb", [("module", "train"), ("command", "--", "python", "train.py")])
def test_it_is_one_line_of_the_log_before_the_script_s_own(gang: Gang, verb: tuple[str, ...]) -> None:
    text = "print('it ran', flush=True)\ndef unused():\n    return nn.CrossEntropyLoss()(F.softmax(x, 1), y)\n"
    (gang.folder / "train.py").write_text(text)
    first, second = gang.start(*verb, workers=2)
    assert (first.wait(), second.wait()) == (0, 0)
    warning, ran = first.output.splitlines()
    assert warning.startswith("trainwright: train.py, line 3: the result of this softmax goes into CrossEntropyLoss")
    assert (ran, second.output) == ("it ran", "it ran\n"), "worker 0 says it for all"
