"""The workers that simulate a sweep's points: this process, others by joblib, or a Dask or Ray cluster."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from loadahead.sim.errors import InputError, LoadaheadError
from loadahead.sim.policy_metrics import Groups
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.sweep import Point, evaluate_points
from loadahead.sweeps.grid import point_name

BACKENDS = ("loky", "dask", "ray")
MOST_JOBS = 1024
# A chunk takes about this long: what is lost when the sweep is killed, and enough to hide what a chunk costs.
CHUNK_SECONDS = 0.1
MOST_IN_CHUNK = 1000
CONNECT_SECONDS = 5

Chunk = Sequence[tuple[int, Point]]
Finished = list[tuple[int, SweepRow]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """``jobs`` processes of this machine, or, where ``scheduler`` is not None, all those of a cluster."""

    backend: str = "loky"
    jobs: int = 1
    scheduler: str | None = None


def workers_of(backend: str, jobs: int | None, scheduler: str | None) -> Workers:
    """Return the workers asked for; InputError where backend, number of processes and scheduler do not go together."""
    if backend not in BACKENDS:
        raise InputError(
            f"backend is {backend!r:.40}; it must be one of {', '.join(BACKENDS)}", parameters=("backend",)
        )
    if jobs is not None and type(jobs) is not int:
        raise InputError(f"jobs is {jobs!r:.40}; it must be a whole number", parameters=("jobs",))
    if backend == "loky":
        if scheduler is not None:
            raise InputError(
                f"the scheduler {scheduler:.80} needs a cluster: backend dask or ray", parameters=("backend",)
            )
        if jobs is not None and not -1 <= jobs <= MOST_JOBS:
            raise InputError(
                f"jobs is {jobs}; it must be a number of processes up to {MOST_JOBS}, 0 for all cores",
                parameters=("jobs",),
            )
        return Workers(jobs=1 if jobs is None else jobs if jobs > 0 else _cores())
    if scheduler is None:
        raise InputError(
            f"backend {backend} needs the address of the cluster's scheduler, e.g. tcp://127.0.0.1:8786",
            parameters=("scheduler",),
        )
    if jobs is not None:
        raise InputError(
            f"jobs {jobs} has no effect with backend {backend}, which uses the whole cluster", parameters=("jobs",)
        )
    return Workers(backend=backend, scheduler=scheduler)


def _cores() -> int:
    import joblib

    return int(joblib.cpu_count())


@dataclass(slots=True)
class Chunks:
    """A stream of points in chunks, each as large as takes about :data:`CHUNK_SECONDS`.

    joblib draws them in threads of its own, in which an error would get lost: it ends the stream and stands in
    ``error``.
    """

    points: Iterator[tuple[int, Point]]
    size: int = 1
    error: BaseException | None = field(default=None, init=False)

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        try:
            chunk = list(itertools.islice(self.points, self.size))
        except BaseException as error:
            self.error = error
            raise StopIteration from error
        if not chunk:
            raise StopIteration
        return chunk

    def learn(self, count: int, seconds: float) -> None:
        """Take into account how long a chunk of so many points took; grow at most twofold at a time."""
        wanted = int(count * CHUNK_SECONDS / max(seconds, 1e-6))
        self.size = max(1, min(wanted, 2 * count, MOST_IN_CHUNK))


def evaluate_chunk(chunk: Chunk, engine: str, groups: Groups | None = None) -> tuple[Finished, float]:
    """Return the chunk's rows by number, and the seconds they took."""
    began = time.perf_counter()
    points = [point for _, point in chunk]
    try:
        rows = evaluate_points(points, engine, groups)
    except LoadaheadError:
        rows = [_named(point, engine) for point in points]
    numbers = [number for number, _ in chunk]
    return list(zip(numbers, rows, strict=True)), time.perf_counter() - began


def _named(point: Point, engine: str) -> SweepRow:
    """Return the point's row; an error in it says which point it is."""
    try:
        return evaluate_points([point], engine)[0]
    except LoadaheadError as error:
        raise error.about(f"the point {point_name(point.axes)}") from error


def evaluate_all(points: Iterator[tuple[int, Point]], engine: str, workers: Workers) -> Generator[Finished, None, None]:
    """Yield the points' rows by number, chunk by chunk as they are finished."""
    chunks = Chunks(points)
    here = workers.scheduler is None and workers.jobs == 1
    results = _in_this_process(chunks, engine) if here else _by_joblib(chunks, engine, workers)
    with closing(results):
        for finished, seconds in results:
            chunks.learn(len(finished), seconds)
            yield finished
    if chunks.error is not None:
        raise chunks.error


def _in_this_process(chunks: Chunks, engine: str) -> Generator[tuple[Finished, float], None, None]:
    groups = Groups()
    for chunk in chunks:
        yield evaluate_chunk(chunk, engine, groups)


def _by_joblib(chunks: Chunks, engine: str, workers: Workers) -> Generator[tuple[Finished, float], None, None]:
    from joblib import Parallel, delayed
    from joblib.parallel import get_active_backend

    with _CONTEXTS[workers.backend](workers):
        backend, jobs = get_active_backend()
        work = delayed(evaluate_chunk)
        if backend.supports_return_generator:
            # One chunk a task: they are large enough, and what is finished is to come back at once.
            parallel = Parallel(batch_size=1, return_as="generator_unordered")
            with closing(parallel(work(chunk, engine) for chunk in chunks)) as results:
                yield from results
            return
        while wave := list(itertools.islice(chunks, 4 * backend.effective_n_jobs(jobs))):
            yield from Parallel(batch_size=1)(work(chunk, engine) for chunk in wave)


@contextmanager
def _loky(workers: Workers) -> Iterator[None]:
    from joblib import parallel_config
    from joblib.externals.loky.process_executor import BrokenProcessPool

    try:
        settings = {"n_jobs": workers.jobs, "initializer": _follow, "initargs": (os.getpid(),)}
        with _without_noise(), parallel_config(backend="loky", **settings):
            yield
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process was killed, perhaps for want of memory; use fewer processes (with a directory, finished "
            "points are kept and the same sweep goes on)",
            parameters=("jobs", "directory"),
        ) from error


@contextmanager
def _without_noise() -> Iterator[None]:
    """Keep joblib quiet: after Ctrl-C it counts what it threw away, and its cleaner finds some of it gone already."""
    before = os.environ.get("PYTHONWARNINGS")
    # That process reads the variable when it starts.
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, "ignore:resource_tracker:UserWarning"]))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"\d+ tasks (have been|which were still)", category=UserWarning)
            yield
    finally:
        os.environ.pop("PYTHONWARNINGS", None)
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def _follow(parent: int) -> None:
    """Make a worker end when its parent is killed, and leave Ctrl-C, which reaches the whole group, to the parent."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _dask(workers: Workers) -> Iterator[None]:
    from concurrent.futures import CancelledError

    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise _missing("dask", "distributed") from error
    from joblib import parallel_config

    _silence("distributed")
    with ExitStack() as stack:
        try:
            connect: Any = Client  # untyped
            client = stack.enter_context(connect(workers.scheduler, timeout=CONNECT_SECONDS, set_as_default=False))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"scheduler {workers.scheduler:.80}: no Dask scheduler answers there within {CONNECT_SECONDS} s "
                f"({type(error).__name__}); give its address, e.g. tcp://127.0.0.1:8786"
            ) from error
        if not client.ncores():
            raise InputError(f"scheduler {workers.scheduler:.80}: the Dask cluster has no workers; start some first")
        try:
            stack.enter_context(parallel_config(backend="dask", n_jobs=-1, client=client))
            yield
        except (OSError, CancelledError, KilledWorker, ImportError) as error:
            raise InputError(
                f"scheduler {workers.scheduler:.80}: the Dask cluster failed ({type(error).__name__}: "
                f"{error!s:.200}); its workers need the same Loadahead (with a directory, finished points are kept and "
                "the same sweep goes on)",
                parameters=("directory",),
            ) from error


def _silence(package: str) -> None:
    """Silence a package that logs a lost connection as a traceback; the error that follows says it in a line."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == package:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


@contextmanager
def _ray(workers: Workers) -> Iterator[None]:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise _missing("ray", "ray") from error
    from joblib import parallel_config

    try:
        ray.init(address=workers.scheduler, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"scheduler {workers.scheduler:.80}: no Ray cluster answers there ({type(error).__name__}); give its "
            "address, or auto for this machine's"
        ) from error
    try:
        register_ray()
        with parallel_config(backend="ray", n_jobs=-1):
            yield
    finally:
        ray.shutdown()


def _missing(backend: str, package: str) -> InputError:
    return InputError(
        f"backend {backend} needs the package {package}, which is not installed: pip install 'loadahead[{backend}]'"
    )


_CONTEXTS: dict[str, Callable[[Workers], AbstractContextManager[None]]] = {"loky": _loky, "dask": _dask, "ray": _ray}
