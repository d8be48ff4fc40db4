"""The vendor's programs: listed, added, renamed and removed, each change with its journal entry."""

from dataclasses import dataclass

import peewee
import pyrage
from peewee import fn
from psycopg2.errors import ForeignKeyViolation

from app.domain.codes import EventKind
from app.domain.programs import MAIN, check_program
from app.domain.texts import RefusedError
from app.runtime.clock import Clock
from app.services.formatting import escaped
from app.storage import journal
from app.storage.database import Database
from app.storage.models import ApiToken, Card, Program
from app.tokens.sealing_key import SealingKey

TABLE = "program"
"""What the data keys are sealed for, with the program's ID (`SealingKey`)."""
_MAX_DATA_KEY = 64 * 1024


class ProgramNotFoundError(RefusedError):
    """There is no program of that ID."""

    def __init__(self, program: str) -> None:
        super().__init__(f"没有程序 {escaped(program)}", f"there is no program {escaped(program)}")


def find(program: str, lock: str = "") -> Program:
    """Return a program's row, locked by the clause `lock` where that is given, or raise ProgramNotFoundError."""
    row: Program | None = None
    if program.isprintable():  # PostgreSQL refuses a NUL
        row = Program.select().where(Program.id == program).for_update(lock).first()
    if row is None:
        raise ProgramNotFoundError(program)
    return row


def checked(program: str | None) -> str | None:
    """Return a program's ID, None standing for all programs, or raise ProgramNotFoundError."""
    return None if program is None else str(find(program).id)


def programs() -> list[Program]:
    """Return all programs, `main` first, then by ID."""
    return list(Program.select().order_by(Program.id != MAIN, Program.id))


@dataclass(frozen=True, slots=True)
class DataKeys:
    """The data keys of the programs: that of `main` is a setting, those of the others are sealed in the database."""

    main: str
    sealing_key: SealingKey

    def open(self, program: str, sealed: str | None) -> str:
        """Return a program's key, where its row has `sealed`; raise SealingKeyError if that does not open."""
        return self.main if sealed is None else self.sealing_key.open(TABLE, program, sealed)

    def of(self, program: str) -> str:
        """Return a program's key; raise ProgramNotFoundError, or SealingKeyError as `open`."""
        return self.open(program, find(program).data_key)


@dataclass(frozen=True, slots=True)
class Programs:
    """Changes the programs of one database; `actor` is the operator's name in the journal."""

    database: Database
    actor: str
    clock: Clock
    sealing_key: SealingKey

    def add(self, program: str, name: str, data_key: str | None = None) -> None:
        """Add a program with its data key, a new age identity if none is given.

        Raise RefusedError if the ID, the name or the key is invalid, the ID or the name is taken, or no sealing key is
        set.
        """
        check_program(program, name)
        key = str(pyrage.x25519.Identity.generate()) if data_key is None else data_key.strip()
        if not key or len(key) > _MAX_DATA_KEY or not all(line.isprintable() for line in key.split("\n")):
            raise RefusedError(
                "数据密钥须为一行或多行可打印字符", "a data key is one line of printable characters, or several"
            )
        if not self.sealing_key.is_set:
            raise RefusedError(
                "未设置 KADUN_SEALING_KEY，无法加密新程序的数据密钥：请先设置并重启（容器中由 scripts/init.sh 生成）",
                "KADUN_SEALING_KEY is not set, and the new program's data key cannot be sealed: set it and restart "
                "(in containers, scripts/init.sh makes it)",
            )
        sealed = self.sealing_key.seal(TABLE, program, key)
        with self.database.transact():
            row = {"id": program, "name": name, "data_key": sealed, "created_at": self.clock()}
            if not Program.insert(**row).on_conflict_ignore().execute():
                raise RefusedError(f"程序 ID {program} 或名称已被使用", f"the ID {program} or the name is taken")
            self._journal(EventKind.PROGRAM_ADDED, program, name)

    def rename(self, program: str, name: str) -> None:
        """Give a program another name, or raise ProgramNotFoundError, or RefusedError if it is invalid or taken."""
        check_program(program, name)
        with self.database.transact():
            if find(program, "FOR NO KEY UPDATE").name == name:
                return
            if Program.select().where(Program.name == name).exists():
                raise RefusedError("已有同名程序", "another program has this name")
            Program.set_by_id(program, {"name": name})
            self._journal(EventKind.PROGRAM_CHANGED, program, name)

    def remove(self, program: str) -> None:
        """Remove a program without cards, files and tokens; raise RefusedError for any other, and for `main`."""
        if program == MAIN:
            raise RefusedError(f"程序 {MAIN} 不能移除", f"the program {MAIN} cannot be removed")
        try:
            with self.database.transact():
                row = find(program, "FOR UPDATE")
                ApiToken.update(program=None).where(
                    (ApiToken.program == program) & ApiToken.revoked_at.is_null(is_null=False)
                ).execute()
                row.delete_instance()
                self._journal(EventKind.PROGRAM_REMOVED, program, row.name)
        except peewee.IntegrityError as error:
            if not isinstance(getattr(error, "orig", None), ForeignKeyViolation):
                raise
            raise RefusedError(
                f"程序 {program} 还有卡密、文件或店铺令牌，不能移除",
                f"the program {program} still has cards, files or shops' tokens: it cannot be removed",
            ) from error

    def _journal(self, kind: EventKind, program: str, name: str) -> None:
        details = {"program": program, "name": name}
        journal.append([journal.Entry(self.clock(), kind, actor=self.actor, details=details)])


def card_counts() -> dict[str, int]:
    """Return how many cards each program has, by its ID; none is left out."""
    return dict(Card.select(Card.program, fn.COUNT(Card.id)).group_by(Card.program).tuples())
