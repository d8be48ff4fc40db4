"""运费报价: a small program with a window, for a shop's desk, that requires a valid card.

Its rates (tariff.json) are shipped sealed, and the key comes with the server's verdict. It asks for the card once,
starts offline if the vendor allows it, and notices while it runs that the card is no longer valid. It shows the
vendor's notice, offers updates, and lets customers unbind their cards.
"""

from __future__ import annotations

import queue
import re
import threading
import tkinter as tk
import webbrowser
from pathlib import Path
from tkinter import messagebox
from typing import TYPE_CHECKING, Callable, TypeVar

import remembered
import shop
from kadun import Client, Heartbeat, KadunError, UpdateRequired, Verdict
from tariff import Tariff
from texts import TEXTS

if TYPE_CHECKING:
    from datetime import datetime

T = TypeVar("T")

HERE = Path(__file__).resolve().parent  # also in a packaged program: PyInstaller puts --add-data there
TEXT = TEXTS[shop.LANGUAGE]
POLL_MS = 100


class Window(tk.Tk):
    """The window. Threads ask the server, so that it never hangs; only its own thread shows what they learned."""

    def __init__(self) -> None:
        """Open with the remembered card, or ask for one."""
        super().__init__()
        self._learned: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._heartbeat: Heartbeat | None = None
        self._status = tk.Label(self, anchor="w", justify="left", width=60, wraplength=480)
        self._status.pack(fill="x", padx=16, pady=12)
        self._form = tk.Frame(self)
        self._form.pack(fill="both", expand=True, padx=16, pady=12)
        self._show_what_was_learned()
        self._card = remembered.read()
        self._open() if self._card else self._ask_for_card(TEXT["card"])

    def report_callback_exception(self, _type: object, error: BaseException, _traceback: object) -> None:
        """Show a mistake in the vendor's settings or core data: a program without a console has no other place."""
        self._start_form(TEXT["wrong"].format(message=error))

    def _ask_for_card(self, message: str) -> None:
        """Let the customer type a card, or try the last one again."""
        self._start_form(message)
        entry = tk.Entry(self._form, width=40)
        entry.insert(0, self._card)
        entry.select_range(0, "end")
        entry.pack(side="left", padx=4)

        def use(_event: object = None) -> None:
            self._card = entry.get().strip()
            if self._card:
                self._open()

        entry.bind("<Return>", use)
        entry.focus_force()
        self._button("open", use)

    def _open(self) -> None:
        client = Client(
            shop.SERVER,
            public_keys=shop.PUBLIC_KEYS,
            card_id=self._card,
            hardware=shop.HARDWARE,
            language=shop.LANGUAGE,
            ca_file=HERE / shop.CA_FILE if shop.CA_FILE else None,
            program=shop.PROGRAM,
            version=shop.VERSION,
        )

        def opened() -> tuple[Verdict, Tariff]:
            return client.open(), Tariff(client.unseal(HERE / shop.CORE))

        self._ask_server(opened, lambda answer: self._work(client, *answer))

    def _work(self, client: Client, verdict: Verdict, tariff: Tariff) -> None:
        """Quote prices, with a heartbeat."""
        self._start_form("\n".join(self._news(verdict)))
        zone, price = tk.StringVar(self, tariff.zones[0]), tk.StringVar(self)
        tk.OptionMenu(self._form, zone, *tariff.zones).pack(side="left")
        weight = tk.Entry(self._form, width=8)
        weight.pack(side="left", padx=4)
        tk.Label(self._form, text="kg").pack(side="left")

        def quote(_event: object = None) -> None:
            try:
                price.set(TEXT["price"].format(price=tariff.price(zone.get(), weight.get())))
            except ValueError:
                price.set(TEXT["no_weight"])
            self.title(f"{TEXT['title']} · {price.get()}")

        weight.bind("<Return>", quote)
        weight.focus_force()
        self._button("quote", quote)
        tk.Label(self._form, textvariable=price, width=16).pack(side="left", padx=4)
        if _is_newer(verdict):
            self._offer_update(verdict.update_url)
        if shop.SELF_SERVICE:
            self._button("unbind", lambda: self._unbind(client))
        self._heartbeat = Heartbeat(
            client,
            interval_seconds=shop.HEARTBEAT_SECONDS,
            on_rejected=lambda error: self._learned.put(lambda: self._failed(error)),
            verdict=verdict,
        )
        self._heartbeat.start()

    def _news(self, verdict: Verdict) -> list[str]:
        """Remember the card, and return the lines that its customer reads."""
        lines = [TEXT["activated"]] if verdict.activated else []
        lines.append(_dated("until", verdict.card_expires_at) if verdict.card_expires_at else TEXT["permanent"])
        if verdict.offline and verdict.offline_until:
            lines.append(_dated("offline", verdict.offline_until))
        if verdict.notice:
            lines.append(TEXT["notice"].format(notice=verdict.notice))
        if _is_newer(verdict):
            lines.append(TEXT["newer"].format(version=verdict.latest_version))
        try:
            remembered.write(self._card)
        except OSError as failure:
            lines.append(TEXT["not_remembered"].format(message=failure))
        return lines

    def _offer_update(self, url: str | None) -> None:
        """Open no address but a page of HTTPS, because it leads to a program to install."""
        if url is not None and url.startswith("https://") and url.isprintable() and " " not in url:
            self._button("update", lambda: webbrowser.open(url))

    def _unbind(self, client: Client) -> None:
        """Release the card, and forget it here: the next start would bind it to this machine again."""
        if not messagebox.askyesno(TEXT["unbind"], TEXT["unbind_sure"], parent=self):
            return

        def unbound() -> None:
            client.unbind()
            remembered.forget()

        def told(_answer: None) -> None:
            self._card = ""
            self._ask_for_card(TEXT["unbound"])

        self._ask_server(unbound, told)

    def _ask_server(self, ask: Callable[[], T], then: Callable[[T], None]) -> None:
        """Do something that takes time in a thread, then go on in the window's."""
        self._start_form(TEXT["connecting"])

        def run() -> None:
            try:
                answer = ask()
            except (KadunError, OSError, ValueError) as failure:
                error = failure
                self._learned.put(lambda: self._failed(error))
            else:
                self._learned.put(lambda: then(answer))

        threading.Thread(target=run, daemon=True).start()

    def _show_what_was_learned(self) -> None:
        self.after(POLL_MS, self._show_what_was_learned)
        while not self._learned.empty():
            self._learned.get()()

    def _failed(self, error: KadunError | OSError | ValueError) -> None:
        """Tell the customer why. Nothing more can be done with the card until it is opened again."""
        if isinstance(error, UpdateRequired):
            self._start_form(error.message)
            self._offer_update(error.update_url)
            self.focus_force()  # the widget that had the keyboard has gone
        elif isinstance(error, KadunError):
            self._ask_for_card(error.message)
        else:
            self._start_form(TEXT["wrong"].format(message=error))

    def _start_form(self, message: str) -> None:
        """Show a message, also in the title, and an empty form; the heartbeat of the form before ends."""
        if self._heartbeat is not None:
            self._heartbeat.stop()
        for widget in self._form.winfo_children():
            widget.destroy()
        self._status["text"] = message
        self.title(" · ".join([TEXT["title"], *message.splitlines()]))

    def _button(self, name: str, command: Callable[[], object]) -> None:
        tk.Button(self._form, text=TEXT[name], command=command).pack(side="left", padx=4)


def _dated(name: str, time: datetime) -> str:
    return TEXT[name].format(time=f"{time.astimezone():%Y-%m-%d %H:%M %z}")


def _is_newer(verdict: Verdict) -> bool:
    return verdict.latest_version is not None and _numbers(verdict.latest_version) > _numbers(shop.VERSION)


def _numbers(version: str) -> list[int]:  # 1.10 is newer than 1.9, and equals 1.10.0
    return [int(number) for number in re.sub(r"(\.0+)+$", "", version).split(".")]


if __name__ == "__main__":
    Window().mainloop()
