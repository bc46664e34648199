"""Downloads of images from a server with every fault that servers have (on 127.0.0.1 only)."""

from __future__ import annotations

import _thread
import io
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import Command
from PIL import Image
from raw_archives import fathomnet
from raw_archives.images import noise

from helper_functions.data.splits import read_split_table
from helper_functions.prepare import download
from helper_functions.prepare.__main__ import main
from helper_functions.prepare.download import fetch_all

Answer = Callable[[BaseHTTPRequestHandler], None]


def png(number: int) -> bytes:
    """An image as a server holds it."""
    file = io.BytesIO()
    Image.fromarray(noise(number)).save(file, "PNG")
    return file.getvalue()


def send(
    request: BaseHTTPRequestHandler, body: bytes, kind: str = "image/png", length: int | None = None
) -> None:
    """A plain answer; a wrong length makes it a truncated one."""
    request.send_response(200)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    request.end_headers()
    request.wfile.write(body)


def send_image(request: BaseHTTPRequestHandler) -> None:
    """The image of the number that is asked for."""
    send(request, png(int(request.path.strip("/").removesuffix(".png"))))


class Server(ThreadingHTTPServer):
    """Answers with ``answers[path]``, one after the other, then with the image of that number."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, list[Answer]] = {}
        self.asked: Counter[str] = Counter()
        self.times: list[float] = []
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.asked[self.path] += 1
            server.times.append(time.monotonic())
            queue = server.answers.get(self.path, [])
            answer = queue.pop(0) if queue else None
        try:
            if answer is not None:
                answer(self)
            else:
                send_image(self)
        except OSError:  # the client has gone, which is what some tests are about
            pass

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A server for one test."""
    with Server() as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.001)


def status(code: int, **headers: str) -> Answer:
    """An answer of a status alone."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def truncated(request: BaseHTTPRequestHandler) -> None:
    body = png(1)
    send(request, body[: len(body) // 2], length=len(body))


def lacks_its_last_bytes(request: BaseHTTPRequestHandler) -> None:
    """Those that no decoder asks for."""
    body = png(1)
    send(request, body, length=len(body) + 10)


def damaged(request: BaseHTTPRequestHandler) -> None:
    body = png(1)
    send(request, body[: len(body) // 2])  # of the length announced


def a_page(request: BaseHTTPRequestHandler) -> None:
    send(request, b"<html>Please log in</html>", "text/html; charset=utf-8")


def a_page_in_disguise(request: BaseHTTPRequestHandler) -> None:
    send(request, b"<html>Please log in</html>")


def empty(request: BaseHTTPRequestHandler) -> None:
    send(request, b"")


# Seconds: what a test of silence waits for, and what the silence then lasts.
SHORT_TIMEOUT, SILENCE = 0.5, 1.5


def silent(_request: BaseHTTPRequestHandler) -> None:
    time.sleep(SILENCE)


def stalls_midway(request: BaseHTTPRequestHandler) -> None:
    truncated(request)
    time.sleep(SILENCE)


def drips(request: BaseHTTPRequestHandler) -> None:
    """Never silent for long, never done."""
    send(request, b"", length=10_000)
    for _ in range(200):
        request.wfile.write(b"x")
        request.wfile.flush()
        time.sleep(0.02)


def hangs_up(request: BaseHTTPRequestHandler) -> None:
    request.connection.close()


def _fetch(server: Server, folder: Path, count: int = 3, **settings: float) -> list[str]:
    urls = {f"{n}.png": f"{server.address}/{n}.png" for n in range(count)}
    chosen = {"jobs": 3, "timeout": 10, "retries": 3, **settings}
    return list(fetch_all(urls, folder, **chosen).values())  # type: ignore[arg-type]


def _assert_complete(folder: Path, numbers: range) -> None:
    """Exactly these images, each as the server has it."""
    assert {path.name for path in folder.iterdir()} == {f"{n}.png" for n in numbers}
    for number in numbers:
        assert (folder / f"{number}.png").read_bytes() == png(number)


PASSING: dict[str, Answer] = {
    "429": status(429),
    "500": status(500),
    "503": status(503),
    "truncated": truncated,
    "lacks its last bytes": lacks_its_last_bytes,
    "damaged": damaged,
    "in disguise": a_page_in_disguise,
    "empty": empty,
    "silent": silent,
    "stalls": stalls_midway,
    "drips": drips,
    "hangs up": hangs_up,
}
SILENT = ("silent", "stalls", "drips")


def _timeout(fault: str) -> float:
    """Long enough for a busy machine, unless the fault is that nothing comes."""
    return SHORT_TIMEOUT if fault in SILENT else 10


@pytest.mark.parametrize("fault", PASSING)
def test_faults_that_pass_are_outlasted(
    fault: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_TIMEOUTS", 3)
    server.answers["/1.png"] = [PASSING[fault]] * 2
    assert _fetch(server, tmp_path, timeout=_timeout(fault)) == []
    _assert_complete(tmp_path, range(3))
    assert server.asked == {"/0.png": 1, "/1.png": 3, "/2.png": 1}


@pytest.mark.parametrize("fault", PASSING)
def test_faults_that_stay_end_with_the_rest_fetched(
    fault: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_TIMEOUTS", 3)
    server.answers["/0.png"] = [PASSING[fault]] * 9
    with pytest.raises(ConnectionError, match=r"1 of 3 images .*0\.png.* same command again"):
        _fetch(server, tmp_path, retries=1, timeout=_timeout(fault))
    _assert_complete(tmp_path, range(1, 3))
    assert server.asked["/0.png"] == 2
    server.answers.clear()
    assert _fetch(server, tmp_path) == []
    _assert_complete(tmp_path, range(3))
    assert server.asked == {"/0.png": 3, "/1.png": 1, "/2.png": 1}  # nothing fetched twice


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (status(404), "the server answers 404 Not Found"),
        (status(403), "the server answers 403 Forbidden"),
        (status(410), "the server answers 410 Gone"),
        (a_page, "the server sends text/html, not an image"),
        (status(302, Location="file:///etc/hostname"), "nothing came from 'http://127.0.0.1:"),
    ],
)
def test_what_is_not_there_is_asked_for_once(
    answer: Answer, reason: str, server: Server, tmp_path: Path
) -> None:
    server.answers["/1.png"] = [answer] * 9
    (failure,) = _fetch(server, tmp_path)
    assert failure.startswith(reason)
    assert server.asked["/1.png"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"0.png", "2.png"}


@pytest.mark.parametrize(
    ("url", "error"),
    [
        *((url, "InvalidURL") for url in ("http://127.0.0.1:x/1.png", "http://[::1/1.png")),
        (f"http://{'a' * 64}.org/", "LocationParseError"),
        *((url, "InvalidSchema") for url in ("file:///etc/hostname", "ftp://127.0.0.1/x.png")),
        *((url, "MissingSchema") for url in ("", "x.png")),
    ],
)
def test_other_addresses_are_not_opened_and_no_reason_to_wait(
    url: str, error: str, tmp_path: Path
) -> None:
    reasons = fetch_all({"x.png": url}, tmp_path, jobs=1, timeout=1, retries=9)
    assert reasons == {"x.png": f"nothing came from {url!r} ({error})"}
    assert not list(tmp_path.iterdir())


def test_a_redirection_is_followed(server: Server, tmp_path: Path) -> None:
    server.answers["/1.png"] = [status(301, Location="/7.png")]
    assert _fetch(server, tmp_path) == []
    assert (tmp_path / "1.png").read_bytes() == png(7)


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_obeyed(code: int, server: Server, tmp_path: Path) -> None:
    server.answers["/0.png"] = [status(code, Retry_After="1")]
    assert _fetch(server, tmp_path, count=1) == []
    first, second = server.times
    assert second - first >= 0.99


def test_a_server_that_asks_for_hours_is_left_alone(server: Server, tmp_path: Path) -> None:
    server.answers["/0.png"] = [status(503, Retry_After="7200")]
    with pytest.raises(ConnectionError, match=r"3 of 3 .* asks to come back in 7,200 s"):
        _fetch(server, tmp_path, jobs=1)
    assert sum(server.asked.values()) == 1


@pytest.fixture
def heeded_interrupts() -> Iterator[None]:
    """Ctrl-C raises, also where the tests run in the background and the shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded_interrupts")
def test_an_interrupted_download_leaves_whole_images_and_goes_on(
    server: Server, tmp_path: Path
) -> None:
    def interrupt(_request: BaseHTTPRequestHandler) -> None:
        _thread.interrupt_main()
        time.sleep(0.3)

    server.answers["/2.png"] = [interrupt]
    with pytest.raises(KeyboardInterrupt):
        _fetch(server, tmp_path, count=9, jobs=1)
    there = {path.name for path in tmp_path.iterdir()}
    assert there <= {f"{n}.png" for n in range(9)}
    assert {"0.png", "1.png"} <= there
    assert "8.png" not in there
    assert _fetch(server, tmp_path, count=9) == []
    _assert_complete(tmp_path, range(9))
    assert server.asked["/0.png"] == 1


@pytest.mark.parametrize("value", ["0", "soon", "-3", "1e9", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_retry_after_without_a_future_moment_changes_nothing(
    value: str, server: Server, tmp_path: Path
) -> None:
    server.answers["/0.png"] = [status(503, Retry_After=value)] * 2
    assert _fetch(server, tmp_path, count=1) == []
    assert server.asked["/0.png"] == 3


def test_pauses_grow_and_differ(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pauses: list[float] = []

    class NoWaiting(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0)
            return self.is_set()

    monkeypatch.setattr(download, "FIRST_PAUSE", 1.0)
    monkeypatch.setattr(download, "Event", NoWaiting)
    server.answers["/0.png"] = [status(500)] * 30
    with pytest.raises(ConnectionError, match="answers 500 Internal Server Error"):
        _fetch(server, tmp_path, count=1, retries=12)
    assert server.asked["/0.png"] == 13
    assert pauses[0] == 0
    for attempt, pause in enumerate(pauses[1:], start=1):
        assert min(2.0**attempt, 120) <= pause <= min(2.0**attempt + 1, 120)
    assert any(pause % 1 for pause in pauses)


def test_as_many_connections_as_allowed_and_no_more(server: Server, tmp_path: Path) -> None:
    pairs = threading.Barrier(2, timeout=20)  # an answer waits for the request of another
    asking: set[str] = set()
    most = 0

    def in_pairs(request: BaseHTTPRequestHandler) -> None:
        nonlocal most
        with server.lock:
            asking.add(request.path)
            most = max(most, len(asking))
        pairs.wait()
        time.sleep(0.02)  # in which a third request would be seen
        with server.lock:
            asking.remove(request.path)  # before the client can know, and ask for the next
        send_image(request)

    server.answers = {f"/{n}.png": [in_pairs] for n in range(8)}
    assert _fetch(server, tmp_path, count=8, jobs=2, retries=0, timeout=30) == []
    _assert_complete(tmp_path, range(8))
    assert most == 2


def test_what_is_there_is_kept_and_what_is_broken_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(5))
    (tmp_path / "1.png").write_bytes(b"")
    assert _fetch(server, tmp_path) == []
    assert (tmp_path / "0.png").read_bytes() == png(5)
    assert (tmp_path / "1.png").read_bytes() == png(1)
    assert server.asked == {"/1.png": 1, "/2.png": 1}


def test_endless_answers_are_cut_off(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 100)
    (reason, *_) = _fetch(server, tmp_path)
    assert "more than 100 bytes" in reason
    assert not list(tmp_path.iterdir())


def _serve_fathomnet(server: Server, raw: Path) -> list[str]:
    """The names of the images of a raw set that lie on the server only."""
    names = list(fathomnet.write(raw, server.address, images=False))

    def answer(number: int) -> Answer:
        file = io.BytesIO()
        kind = "JPEG" if names[number].endswith(".jpg") else "PNG"
        Image.fromarray(noise(number)).save(file, kind)
        return lambda request: send(request, file.getvalue(), f"image/{kind.lower()}")

    server.answers = {f"/{name}": [answer(n)] * 2 for n, name in enumerate(names)}
    return names


def test_fathomnet_is_fetched_converted_and_not_fetched_again(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "splits.csv"
    names = _serve_fathomnet(server, raw)
    server.answers[f"/{names[2]}"] = [status(404)] * 2
    flags = ["fathomnet", "--raw-dir", str(raw), "--out", str(out), "--download"]
    main([*flags, "--dry-run", "--keep-missing"])
    assert not server.asked
    assert not (raw / "images").exists()
    main([*flags, "--timeout", "5"])
    captured = capsys.readouterr()
    assert f"{names[2]} cannot be had: the server answers 404" in captured.err
    assert "1 left out: the image is not there" in captured.out
    assert [sample.filename for sample in read_split_table(out).samples] == [
        name for name in names if name != names[2]
    ]
    before = dict(server.asked)
    main([*flags, "--timeout", "5"])
    assert server.asked == {**before, f"/{names[2]}": 2}


def test_a_server_that_is_down_ends_with_status_1_and_nothing_written(
    server: Server, command: Command, tmp_path: Path
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "splits.csv"
    names = _serve_fathomnet(server, raw)
    server.answers = {f"/{name}": [status(503)] * 9 for name in names}
    done = command(
        *("-m", "helper_functions.prepare", "fathomnet", "--raw-dir", raw, "--out", out),
        *("--download", "--retries", 0),
    )
    assert done.returncode == 1
    assert "10 of 10 images could not be fetched" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not out.exists()
