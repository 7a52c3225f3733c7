"""One browser at the other end of a socket: what it gets, and what is done of what it asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import Any

from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.viewer.decoding import MalformedMessage
from splat.viewer.protocol import (
    Edit,
    Look,
    Message,
    Path,
    Pick,
    Save,
    Shown,
    Steer,
    Undo,
    parse,
    picture_message,
    splats_messages,
    to_text,
)
from splat.viewer.session import Session, pinhole_rows

SEND_SECONDS = 20.0
"""A browser that takes longer for one message (at most a megabyte) is dropped."""
SHOWN_SECONDS = 120.0
"""So is one that does not say within this time that it has drawn what it got."""
MAX_WAITING = 64
"""Answers that wait for one browser."""


class Browser:
    """One browser."""

    def __init__(
        self, session: Session, connection: Any, loop: asyncio.AbstractEventLoop, work: Executor, slow: Executor
    ) -> None:
        """`work` draws, one picture at a time; `slow` is for what takes minutes."""
        self.session, self.connection, self.loop, self.work, self.slow = session, connection, loop, work, slow
        self._tasks: set[asyncio.Task[Any]] = set()
        self.wake = asyncio.Event()
        self.wake.set()
        self._known = dict.fromkeys(("hello", "progress", "splats", "edited"), -1)
        self._waiting: list[str | bytes] = []
        self._look: Look | None = None
        self._drawing = False
        self._unseen_since: float | None = None  # when splats were sent that are not yet on the screen

    async def run(self) -> None:
        """Until either side ends it."""
        tasks = [asyncio.create_task(t) for t in (self._receive(), self._send())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await self._end(task.exception())
        finally:
            tasks += self._tasks
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _end(self, error: BaseException | None) -> None:
        if isinstance(error, MalformedMessage):
            reason = f"malformed message: {error}"[:110]
            await self.connection.close(1007, reason.encode("ascii", "replace").decode())
        elif isinstance(error, TimeoutError):
            self.connection.transport.abort()
        elif error is not None:
            await self.connection.close(1011, "error")

    # ------------------------------------------------------------------------------------------------------------ to it

    async def _send(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.wake.wait(), 5)
            self.wake.clear()
            versions = dict(self.session.versions)
            if self._is_new("hello", versions):
                await self._put(to_text(self.session.hello))
                self._known["edited"] = -1
            if self._is_new("progress", versions):
                await self._put(to_text(self.session.figures | {"paused": self.session.steering.paused}))
            if self._unseen_since is None and self._known["splats"] != versions["splats"]:
                await self._put_splats()
            if self._unseen_since is not None and self.loop.time() - self._unseen_since > SHOWN_SECONDS:
                raise TimeoutError
            if self._known["splats"] == versions["splats"] and self._is_new("edited", versions):
                await self._put(to_text(self.session.edited()))
                mask = self.session.mask()
                if mask is not None:
                    await self._put(mask)
            while self._waiting:
                await self._put(self._waiting.pop(0))

    def _is_new(self, what: str, versions: dict[str, int]) -> bool:
        new = self._known[what] != versions[what]
        self._known[what] = versions[what]
        return new

    async def _put_splats(self) -> None:
        packed = await self.loop.run_in_executor(None, self.session.packed)
        if packed is None:
            return
        self._known["splats"] = packed.version
        self._unseen_since = self.loop.time()
        started = time.thread_time()
        for part in splats_messages(packed.step, packed.count, packed.sh_degree, packed.planes):
            await self._put(part)
        self.session.spend(time.thread_time() - started)

    async def _put(self, message: str | bytes) -> None:
        await asyncio.wait_for(self.connection.send(message), SEND_SECONDS)

    def _reply(self, message: dict[str, Any] | bytes) -> None:
        """Queue an answer; one that nobody takes is given up with its browser."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(message if isinstance(message, bytes) else to_text(message))
        self.wake.set()

    def _reply_from_thread(self, message: dict[str, Any]) -> None:
        self.loop.call_soon_threadsafe(self._reply, message)

    # ---------------------------------------------------------------------------------------------------------- from it

    async def _receive(self) -> None:
        async for text in self.connection:
            await self._do(parse(text))

    async def _do(self, message: Message) -> None:
        s = self.session
        if isinstance(message, Shown):
            self._unseen_since = None
            self.wake.set()
        elif isinstance(message, Look):
            self._look = message
            if not self._drawing:
                self._drawing = True
                self._begin(self._draw())
        elif isinstance(message, Steer):
            s.steering.paused = message.action == "pause"
            s.steering.ends = s.steering.ends or message.action == "stop"
            s.progress(**{k: v for k, v in s.figures.items() if k != "type"})
        elif isinstance(message, Pick):
            await self._work(lambda: self._reply_from_thread(s.pick(message)))
        elif isinstance(message, Edit):
            await self._work(partial(s.edit, message.operation, message.replace))
        elif isinstance(message, Undo):
            await self._work(partial(s.undo, message.all))
        elif isinstance(message, Save):
            await self._work(lambda: self._saved(s.save()))
        elif isinstance(message, Path) and message.action == "preview":
            poses = await self.loop.run_in_executor(None, s.poses, message)
            self._reply({"type": "path", "fps": message.fps, "poses": [pinhole_rows(p) for p in poses]})
        elif isinstance(message, Path):
            self._begin(self._work(lambda: self._saved(s.render(message, self._rendered)), self.slow))

    async def _draw(self) -> None:
        """Pictures, the last that was asked for first, until none is."""
        try:
            while (look := self._look) is not None:
                self._look = None
                image: list[bytes] = []
                if await self._work(lambda look=look, image=image: image.append(self.session.picture(look))):  # type: ignore[misc]
                    self._reply(picture_message(look.id, image[0]))
        finally:
            self._drawing = False

    def _begin(self, job: Coroutine[Any, Any, Any]) -> None:
        """Do something beside reading messages; it ends with the browser."""
        task = self.loop.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, job: Callable[[], Any], executor: Executor | None = None) -> bool:
        """Do something slow, one at a time for all browsers. What a user can mend is a notice."""
        try:
            await self.loop.run_in_executor(executor or self.work, job)
        except (SplatError, ValueError) as e:
            self._reply({"type": "notice", "text": shown(e)})
            return False
        except Exception as e:
            self._reply({"type": "notice", "text": f"that failed: {type(e).__name__} {shown(e)[:200]}"})
            return False
        return True

    def _saved(self, files: list[Any]) -> None:
        everything = self.session.saved
        rows = [{"id": everything.index(f), "name": f.name, "path": shown(f)} for f in files]
        self._reply_from_thread({"type": "saved", "files": rows})

    def _rendered(self, done: int, total: int) -> None:
        if done == total or done % 5 == 0:
            self._reply_from_thread({"type": "rendered", "done": done, "total": total})
