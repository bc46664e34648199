"""The training loop: schedule, log, resume, unreadable images, signals."""

from __future__ import annotations

import copy
import json
import math
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import GOLDEN
from PIL import Image
from torch import Tensor, nn

from helper_functions.checkpoints import read_checkpoint
from helper_functions.checkpoints.checkpoint import LAST, LAST_BUT_ONE
from helper_functions.data.dataset import ImageDataset, Samples, make_loader
from helper_functions.data.targets import Target
from helper_functions.data.transforms import EvalTransform
from helper_functions.results.training_log import TrainingLog
from helper_functions.runtime.device import resolve_amp, resolve_device
from helper_functions.runtime.errors import TrainingFailed, UserError
from helper_functions.runtime.signals import Stopped, StopRequest
from helper_functions.training.engine import Trainer
from helper_functions.training.flags import SaveSettings, TrainSettings
from helper_functions.training.optim import make_optimizer, make_scheduler
from helper_functions.training.step import StepResult


def test_one_cycle_follows_the_golden_schedule() -> None:
    for recipe in json.loads((GOLDEN / "recipe.json").read_text())["one_cycle"]:
        optimizer = make_optimizer(nn.Linear(2, 2), recipe["max_lr"], 1e-4)
        scheduler = make_scheduler(optimizer, recipe["total_steps"], recipe["pct_start"])
        compared = 0
        for step in range(recipe["total_steps"]):
            for group in optimizer.param_groups:
                if str(step) in recipe["samples"]:
                    lr, beta1 = recipe["samples"][str(step)]
                    assert group["lr"] == pytest.approx(lr, rel=1e-6)
                    assert group["betas"][0] == pytest.approx(beta1, rel=1e-6)
                    compared += 1
            optimizer.step()
            scheduler.step()
        assert compared == 2 * len(recipe["samples"])


def test_weight_decay_spares_biases_and_other_vectors() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2))
    no_decay, decay = make_optimizer(model, 1e-3, 0.5).param_groups
    assert (no_decay["weight_decay"], decay["weight_decay"]) == (0, 0.5)
    assert {p.ndim for p in decay["params"]} == {2, 4}
    assert {p.ndim for p in no_decay["params"]} == {1}
    assert len(decay["params"]) + len(no_decay["params"]) == len(list(model.parameters()))


def test_fused_adam_goes_on_from_the_state_of_one_that_loops() -> None:
    torch.manual_seed(0)
    models = [nn.Linear(5, 4, bias=False) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    loop = torch.optim.Adam(models[0].parameters(), 1e-2, weight_decay=0.1, fused=False)
    ours = make_optimizer(models[1], 1e-2, 0.1)
    for step in range(6):
        if step == 3:
            models[1].load_state_dict(models[0].state_dict())
            ours.load_state_dict(copy.deepcopy(loop.state_dict()))
        for model, optimizer in zip(models, (loop, ours), strict=True):
            model.weight.grad = torch.full_like(model.weight, 0.5).cumsum(1) - step
            optimizer.step()
        torch.testing.assert_close(models[1].weight, models[0].weight)
    assert all(group["fused"] for group in ours.param_groups)
    assert not loop.param_groups[0]["fused"]


def test_parts_of_a_model_learn_at_their_own_rates() -> None:
    body, head = nn.Linear(3, 4), nn.Linear(4, 2, bias=False)
    model = nn.ModuleDict({"body": body, "head": head})
    optimizer = make_optimizer(model, 1e-3, 0.5, {"head": 10, "body": 1})
    scheduler = make_scheduler(optimizer, 10)
    for _ in range(2):
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["params"][0] is body.bias  # the logged rate is the model's
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(optimizer.param_groups) == 3
    assert rates[id(head.weight)] == pytest.approx(10 * rates[id(body.weight)])


def test_mixed_precision_is_chosen_by_device() -> None:
    assert resolve_amp("auto", torch.device("cpu")) is None
    assert resolve_amp("auto", torch.device("cuda")) is torch.float16
    assert resolve_amp("bf16", torch.device("cpu")) is torch.bfloat16
    assert resolve_amp("off", torch.device("cuda")) is None


def test_absent_devices_are_refused() -> None:
    assert resolve_device("cpu").type == "cpu"
    with pytest.raises(UserError, match="'quantum' cannot be used here"):
        resolve_device("quantum")


# A task that is no classification, whose loss is a mean: the loop asks nothing else of it.


class _Regression:
    monitor = "score"
    higher_is_better = True
    sums_over_images = False

    def model_name(self, model: nn.Module) -> str:
        return type(model).__name__

    def loss(
        self, model: nn.Module, images: Tensor, targets: Any, _sizes: Any = (), share: float = 1.0
    ) -> dict[str, Tensor]:
        assert 0 < share <= 1
        error = (model(images).squeeze(1) - targets.squeeze(1)).square().mean()
        return {"loss": error, "rmse": error.detach().sqrt()}


class _Score:
    """An evaluation of weights alone."""

    def __init__(self, model: nn.Module) -> None:
        self.score = next(model.parameters()).abs().mean().item()

    def compute(self) -> dict[str, float]:
        return {"score": self.score}


class _Mean(EvalTransform):
    """The mean color of an image, with noise."""

    def __call__(
        self, image: Image.Image, target: Target = None, rng: random.Random | None = None
    ) -> tuple[Tensor, Target]:
        assert rng is not None
        color = torch.tensor(image.resize((1, 1)).getpixel((0, 0))) / 255
        return (color + rng.random() * 0.01).view(3, 1, 1), target


class _Pooled(nn.Sequential):
    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = super().forward(images.flatten(1))  # type: ignore[no-untyped-call]
        return output


def _samples(folder: Path) -> Samples:
    paths = [folder / f"{index}.png" for index in range(10)]
    for index, path in enumerate(paths):
        if not path.exists():
            Image.new("RGB", (4, 4), (25 * index, 100, 0)).save(path)
    targets: list[Target] = [torch.tensor([index / 10]) for index in range(10)]
    return Samples([path.name for path in paths], paths, targets)


def _trainer(folder: Path, output: Path, **options: Any) -> Trainer:
    torch.manual_seed(0)
    model = _Pooled(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 1))
    model = options.pop("model", model)
    optimizer = make_optimizer(model, 0.05, 0.0)
    output.mkdir(exist_ok=True)
    train, saving = (
        {name: options.pop(name) for name in kind.__dataclass_fields__ if name in options}
        for kind in (TrainSettings, SaveSettings)
    )
    settings = TrainSettings(**{"epochs": 3, "lr": 0.05, **train})
    batch_size = options.pop("batch_size", 3)
    dataset = ImageDataset(_samples(folder), _Mean(1))
    loader = make_loader(dataset, batch_size=batch_size, workers=0, shuffle=True)
    steps = settings.epochs * math.ceil(len(loader) / settings.accum_steps)
    return Trainer(
        options.pop("task", _Regression()),
        model,
        loader,
        options.pop("evaluate", _Score),
        optimizer,
        make_scheduler(optimizer, steps),
        settings,
        SaveSettings(output_path=output, **saving),
        device=torch.device("cpu"),
        description={"settings": {}, "info": {}},
        **options,
    )


def _final(output: Path) -> tuple[dict[str, Tensor], str]:
    """Last weights and the log without its times."""
    log = [
        {key: value for key, value in row.items() if key != "seconds"}
        for row in TrainingLog(output / "log.csv").read()
    ]
    return read_checkpoint(output / LAST)["model"], json.dumps(log)


def _assert_same_end(one: Path, other: Path) -> None:
    (weights, log), (other_weights, other_log) = _final(one), _final(other)
    assert log == other_log
    for name, value in weights.items():
        assert torch.equal(value, other_weights[name]), name


def test_the_loop_minimises_logs_and_saves(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, tmp_path / "run", epochs=20)
    trainer.fit()
    rows = TrainingLog(tmp_path / "run" / "log.csv").read()
    assert [int(row["epoch"]) for row in rows] == list(range(1, 21))
    assert [int(row["step"]) for row in rows] == [4 * (n + 1) for n in range(20)]
    assert list(rows[0]) == [
        *("epoch", "step", "lr", "loss", "val_score", "rmse", "bad_steps", "seconds")
    ]
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])
    best = read_checkpoint(tmp_path / "run" / "model-highest.ckpt")
    scores = [float(row["val_score"]) for row in rows]
    assert best["metrics"]["score"] == pytest.approx(max(scores))
    assert best["epoch"] == scores.index(max(scores)) + 1 == trainer.state.best_epoch
    assert "training" not in best.content


class _StopAfter(StopRequest):
    """Pretends that a signal comes in during a step."""

    def __init__(self, checks: int) -> None:
        super().__init__()
        self.left = checks

    def requested(self) -> int:
        self.left -= 1
        if self.left == 0:
            self.signum = signal.SIGTERM
        return super().requested()


@pytest.mark.parametrize("steps", [1, 4, 6, 11])
def test_a_stopped_run_ends_where_an_undisturbed_one_ends(tmp_path: Path, steps: int) -> None:
    """Bit for bit, from the middle of an epoch as well as from its end."""
    _trainer(tmp_path, tmp_path / "whole").fit()
    with pytest.raises(Stopped) as stopped:
        _trainer(tmp_path, tmp_path / "parts", stop=_StopAfter(steps)).fit()
    assert stopped.value.exit_status == 143
    resumed = _trainer(tmp_path, tmp_path / "parts")
    resumed.resume(read_checkpoint(tmp_path / "parts" / LAST))
    assert resumed.state.step == steps
    resumed.fit()
    _assert_same_end(tmp_path / "whole", tmp_path / "parts")


def test_a_finished_run_resumes_to_nothing(tmp_path: Path) -> None:
    _trainer(tmp_path, tmp_path / "run").fit()
    before = _final(tmp_path / "run")
    trainer = _trainer(tmp_path, tmp_path / "run")
    trainer.resume(read_checkpoint(tmp_path / "run" / LAST))
    trainer.fit()
    assert _final(tmp_path / "run")[1] == before[1]


def test_a_checkpoint_of_another_model_does_not_resume(tmp_path: Path) -> None:
    _trainer(tmp_path, tmp_path / "run").fit()
    trainer = _trainer(tmp_path, tmp_path / "run", model=_Pooled(nn.Linear(3, 1)))
    with pytest.raises(UserError, match="does not fit this run"):
        trainer.resume(read_checkpoint(tmp_path / "run" / LAST))


def test_unreadable_images_stop_the_run_unless_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = _trainer(tmp_path, tmp_path / "run")
    (tmp_path / "3.png").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"3\.png.*allow --max-bad-images 1"):
        trainer.fit()
    tolerant = _trainer(tmp_path, tmp_path / "tolerant", max_bad_images=1)
    tolerant.fit()
    assert len(tolerant.state.bad_images) == 1
    assert capsys.readouterr().err.count("Skipped:") == 1


class _RunningMean(nn.Module):
    """A statistic that every forward pass moves, as batch norm's do."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(x.detach().mean())
        return x


class _Diverging(_Regression):
    """A loss that is infinite, or has a gradient that is none, in some steps."""

    def __init__(self, steps: Sequence[int], *, gradient_only: bool = False) -> None:
        self.steps = steps
        self.gradient_only = gradient_only
        self.calls = 0

    def loss(
        self, model: nn.Module, images: Tensor, targets: Any, sizes: Any = (), share: float = 1.0
    ) -> dict[str, Tensor]:
        self.calls += 1
        terms = super().loss(model, images, targets, sizes, share)
        if self.calls not in self.steps:
            return terms
        if self.gradient_only:  # the slope of the root at 0 is infinite
            zero = next(model.parameters()).sum() * 0
            return {**terms, "loss": terms["loss"] + zero.sqrt()}
        return {**terms, "loss": terms["loss"] * torch.inf}


def _after_each_step(trainer: Trainer, call: Callable[[StepResult], None]) -> None:
    """Call a function with the result of every step of a trainer."""
    step = trainer.train_step

    def recording(*arguments: Any) -> StepResult:
        result = step(*arguments)
        call(result)
        return result

    class Recording:
        def __call__(self, *arguments: Any) -> StepResult:
            return recording(*arguments)

        def __getattr__(self, name: str) -> Any:
            return getattr(step, name)

    trainer.train_step = Recording()  # type: ignore[assignment]


@pytest.mark.parametrize("gradient_only", [False, True])
def test_a_step_with_bad_numbers_changes_nothing_and_is_reported(
    gradient_only: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    norm = _Pooled(nn.Linear(3, 8), _RunningMean(), nn.Linear(8, 1))
    diverging = _Diverging([6], gradient_only=gradient_only)
    trainer = _trainer(tmp_path, tmp_path / "run", task=diverging, model=norm)
    states: list[dict[str, Tensor]] = []
    rates: list[float] = []
    results: list[StepResult] = []

    def record(result: StepResult) -> None:
        states.append({name: value.clone() for name, value in norm.state_dict().items()})
        rates.append(trainer.learning_rate())
        results.append(result)

    _after_each_step(trainer, record)
    trainer.fit()
    assert [result.bad for result in results] == [index == 5 for index in range(12)]
    assert [result.updated for result in results] == [index != 5 for index in range(12)]
    for name, value in states[4].items():
        if value.is_floating_point():
            assert torch.equal(value, states[5][name]), name
            assert value.isfinite().all()
    assert rates[4] == rates[5] != rates[6]
    assert trainer.train_step.scheduler.last_epoch == 11
    errors = capsys.readouterr().err
    assert "Step 6 is skipped" in errors
    assert errors.count(".png") == 3  # the images of the batch
    assert "rate" in errors
    rows = TrainingLog(tmp_path / "run" / "log.csv").read()
    assert [row["bad_steps"] for row in rows] == ["0", "1", "1"]
    assert all(math.isfinite(float(row["loss"])) for row in rows)


def test_too_many_bad_steps_in_a_row_stop_the_run(tmp_path: Path) -> None:
    def run(name: str, steps: Sequence[int]) -> Trainer:
        return _trainer(tmp_path, tmp_path / name, task=_Diverging(steps), max_bad_steps=2)

    run("scattered", [2, 3, 5, 6, 8]).fit()
    assert read_checkpoint(tmp_path / "scattered" / LAST)["step"] == 12
    with pytest.raises(TrainingFailed, match="of 3 steps in a row, up to step 8, is not finite"):
        run("in_a_row", [6, 7, 8]).fit()
    assert read_checkpoint(tmp_path / "in_a_row" / LAST)["step"] == 4


class _Summed(_Regression):
    """The same loss as a sum over the images."""

    sums_over_images = True

    def loss(
        self, model: nn.Module, images: Tensor, targets: Any, sizes: Any = (), share: float = 1.0
    ) -> dict[str, Tensor]:
        terms = super().loss(model, images, targets, sizes, share)
        return {"loss": terms["loss"] * len(images)}


@pytest.mark.parametrize("task", [_Regression(), _Summed()])
def test_accumulated_batches_train_as_one_large_batch(tmp_path: Path, task: _Regression) -> None:
    """For losses that are means and that are sums; the last step of an epoch is smaller."""

    def final(name: str, batch_size: int, accum_steps: int) -> dict[str, Tensor]:
        torch.manual_seed(0)
        trainer = _trainer(
            *(tmp_path, tmp_path / name),
            model=_Pooled(nn.Linear(3, 1)),
            task=task,
            batch_size=batch_size,
            accum_steps=accum_steps,
        )
        trainer.fit()
        assert trainer.state.step == 9
        return trainer.model.state_dict()

    whole, parts = final("whole", 4, 1), final("parts", 2, 2)
    for name, value in whole.items():
        assert torch.allclose(value, parts[name], atol=1e-6)


def test_long_gradients_are_clipped(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, tmp_path / "run", clip_grad=1e-3)
    steps: list[float] = []
    step = trainer.train_step.optimizer.step

    def measuring(*arguments: Any, **settings: Any) -> Any:
        grads = [p.grad for p in trainer.model.parameters() if p.grad is not None]
        steps.append(torch.stack([grad.norm() for grad in grads]).norm().item())
        return step(*arguments, **settings)

    trainer.train_step.optimizer.step = measuring  # type: ignore[method-assign]
    trainer.fit()
    assert max(steps) <= 1e-3 * 1.001
    assert len(steps) == 12


def test_a_run_is_saved_between_epochs_and_keeps_the_save_before(tmp_path: Path) -> None:
    output = tmp_path / "run"
    trainer = _trainer(tmp_path, output, save_every_steps=3)

    def kill(_result: StepResult) -> None:
        if trainer.state.step == 7:
            raise KeyboardInterrupt  # which saves nothing, as a kill does

    _after_each_step(trainer, kill)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert read_checkpoint(output / LAST)["step"] == 4
    assert read_checkpoint(output / LAST_BUT_ONE)["step"] == 3
    for name in (LAST, LAST_BUT_ONE):
        resumed = _trainer(tmp_path, output)
        resumed.resume(read_checkpoint(output / name))
        resumed.fit()
        _trainer(tmp_path, tmp_path / "whole").fit()
        _assert_same_end(tmp_path / "whole", output)


def test_the_checkpoint_of_every_epoch_can_be_kept(tmp_path: Path) -> None:
    _trainer(tmp_path, tmp_path / "run", keep_all=True).fit()
    kept = sorted(path.name for path in (tmp_path / "run").glob("model-[0-9]*.ckpt"))
    scores = [float(row["val_score"]) for row in TrainingLog(tmp_path / "run" / "log.csv").read()]
    assert kept == [f"model-{epoch}-{score:.2f}.ckpt" for epoch, score in enumerate(scores, 1)]


def test_a_failed_save_stops_the_run_and_a_failed_log_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    trainer = _trainer(tmp_path, tmp_path / "log")
    monkeypatch.setattr(trainer.log, "write", full)
    trainer.fit()
    assert trainer.state.epoch == 3
    assert "log.csv could not be written: [Errno 28] No space left on device" in (
        capsys.readouterr().err
    )

    _trainer(tmp_path, tmp_path / "save", epochs=1).fit()
    before = (tmp_path / "save" / LAST).read_bytes()
    trainer = _trainer(tmp_path, tmp_path / "save")
    monkeypatch.setattr("helper_functions.checkpoints.checkpoint.torch.save", full)
    with pytest.raises(TrainingFailed, match=r"ckpt could not be written .*No space.* MB are free"):
        trainer.fit()
    assert (tmp_path / "save" / LAST).read_bytes() == before
    assert not list((tmp_path / "save").glob(".*.tmp"))


def test_an_evaluation_that_fails_loses_no_epoch(tmp_path: Path) -> None:
    def refuse(_model: nn.Module) -> _Score:
        raise UserError("An image is torn.")

    with pytest.raises(UserError, match="torn"):
        _trainer(tmp_path, tmp_path / "run", evaluate=refuse).fit()
    resumed = _trainer(tmp_path, tmp_path / "run")
    resumed.resume(read_checkpoint(tmp_path / "run" / LAST))
    assert resumed.state.step == 4
    resumed.fit()
    _trainer(tmp_path, tmp_path / "whole").fit()
    _assert_same_end(tmp_path / "whole", tmp_path / "run")


def test_the_average_of_the_weights_is_evaluated_saved_and_resumed(tmp_path: Path) -> None:
    whole = _trainer(tmp_path, tmp_path / "whole", ema_decay=0.6)
    average = {name: value.clone() for name, value in whole.model.state_dict().items()}

    def average_again(_result: StepResult) -> None:
        decay = min(0.6, 1 - whole.state.step ** (-2 / 3))  # grows from 0 to the bound
        for name, value in whole.model.state_dict().items():
            average[name] = decay * average[name] + (1 - decay) * value

    _after_each_step(whole, average_again)
    whole.fit()
    saved = read_checkpoint(tmp_path / "whole" / LAST)
    for name, value in average.items():
        assert torch.allclose(saved["model"][name], value, atol=1e-6)
        assert not torch.equal(saved["model"][name], whole.model.state_dict()[name])
    rows = TrainingLog(tmp_path / "whole" / "log.csv").read()
    assert float(rows[-1]["val_score"]) == pytest.approx(average["0.weight"].abs().mean().item())
    assert rows[-1]["val_raw_score"] != rows[-1]["val_score"]

    with pytest.raises(Stopped):
        _trainer(tmp_path, tmp_path / "parts", ema_decay=0.6, stop=_StopAfter(6)).fit()
    second = _trainer(tmp_path, tmp_path / "parts", ema_decay=0.6)
    second.resume(read_checkpoint(tmp_path / "parts" / LAST))
    second.fit()
    _assert_same_end(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("total_steps", range(1, 13))
def test_runs_of_any_length_have_a_schedule(total_steps: int) -> None:
    optimizer = make_optimizer(nn.Linear(2, 2), 1e-3, 0)
    scheduler = make_scheduler(optimizer, total_steps, 0.2)
    for _ in range(total_steps):
        assert 0 < optimizer.param_groups[0]["lr"] <= 1e-3
        optimizer.step()
        scheduler.step()


def test_losses_are_shown_every_print_freq_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _trainer(tmp_path, tmp_path / "run", print_freq=2).fit()
    shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    assert [line.split(":")[0] for line in shown] == [f"step {n}" for n in (2, 4, 6, 8, 10, 12)]
    assert "loss" in shown[0]
    assert "rmse" in shown[0]


def test_half_precision_training_scales_the_loss(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, tmp_path / "run", amp=torch.float16)
    assert trainer.train_step.scaler.is_enabled()
    trainer.fit()
    scale = read_checkpoint(tmp_path / "run" / LAST)["training"]["scaler"]
    assert scale["scale"] > 0
    assert not _trainer(tmp_path, tmp_path / "b", amp=torch.bfloat16).train_step.scaler.is_enabled()


def test_the_first_signal_waits_and_the_second_acts_at_once() -> None:
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        stop = StopRequest()
        stop.listen()
        stop.check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Stopped) as stopped:
            stop.check()
        assert stopped.value.exit_status == 130
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


def test_the_log_replaces_rows_of_epochs_that_are_run_again(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "log.csv")
    for epoch in range(3):
        log.write({"epoch": epoch, "loss": 1 / 3})
    log.write({"epoch": 1, "loss": 0.25, "extra": 5})
    text = (tmp_path / "log.csv").read_text()
    assert text == "epoch,loss,extra\n0,0.3333333333,\n1,0.25,5\n"


# Trying a step before the run


class _Moving(_Pooled):
    """Draws random numbers and changes buffers and weights as it goes."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))

    def forward(self, images: Tensor) -> Tensor:
        random.random()
        with torch.no_grad():
            self.get_parameter("0.weight").mul_(1.01)
        return super().forward(images)


def test_a_dry_run_leaves_nothing_behind(tmp_path: Path) -> None:
    for name in ("plain", "dry"):
        random.seed(0)
        torch.manual_seed(0)
        trainer = _trainer(tmp_path, tmp_path / name, model=_Moving(), batch_size=5, epochs=1)
        if name == "dry":
            before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
            states = random.getstate(), torch.get_rng_state()
            trainer.dry_run()
            assert random.getstate() == states[0]
            assert torch.equal(torch.get_rng_state(), states[1])
            for key, value in trainer.model.state_dict().items():
                assert torch.equal(value, before[key]), key
            assert all(parameter.grad is None for parameter in trainer.model.parameters())
        trainer.fit()
    _assert_same_end(tmp_path / "plain", tmp_path / "dry")


@pytest.mark.parametrize(
    ("batch_size", "sentence"),
    [
        (3, "on 1 image of 1 x 1 pixels is impossible: .*so choose --batch-size 2 or 4, or"),
        (1, "on 1 image of 1 x 1 pixels is impossible: .*so choose --batch-size 2, or"),
    ],
)
def test_a_batch_of_one_image_is_refused_before_the_run(
    tmp_path: Path, batch_size: int, sentence: str
) -> None:
    trainer = _trainer(tmp_path, tmp_path / "run", model=_Moving(), batch_size=batch_size)
    with pytest.raises(UserError, match=sentence):
        trainer.dry_run()
    assert not list((tmp_path / "run").iterdir())


class _Failing(_Pooled):
    def __init__(self, error: Exception) -> None:
        super().__init__(nn.Linear(3, 1))
        self.error = error

    def forward(self, _: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes. Buy more."),
            r"_Failing on 3 images of 1 x 1 pixels is impossible\. .*lower --batch-size",
        ),
        (IndexError("no such layer\nmore"), r": no such layer; choose another --backbone-name"),
        (AssertionError(), r": AssertionError at 'raise self\.error'; choose another"),
    ],
)
def test_whatever_a_model_raises_is_a_sentence(
    tmp_path: Path, error: Exception, sentence: str
) -> None:
    trainer = _trainer(tmp_path, tmp_path / "run", model=_Failing(error))
    with pytest.raises(UserError, match=sentence):
        trainer.dry_run()
