"""`cardctl completion`: a script that completes by itself, without asking the service or a container at each Tab."""

import re
import sys
from collections.abc import Iterator

import click

_BASH = """\
# Completion of cardctl for bash: eval "$(scripts/cardctl completion bash)", or keep it in a file that bash sources.
# zsh (tried with 5.9) sources it after: autoload -U compinit bashcompinit && compinit && bashcompinit
_cardctl() {
    local command='' word words='' current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()
    for word in "${COMP_WORDS[@]:1:$((COMP_CWORD - 1))}"; do
        case "$command $word" in
            @COMMANDS@) command="$command $word" ;;
        esac
    done
    case "$command $before" in
@VALUES@
        *)
            case $command in
@WORDS@
            esac
            ;;
    esac
    local IFS=$' \\t\\n'
    while read -r word; do COMPREPLY+=("$word"); done < <(compgen -W "$words" -- "$current")
}
complete -o default -F _cardctl cardctl
"""


@click.command()
@click.argument("shell", type=click.Choice(["bash"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:  # noqa: ARG001  # there is one
    """补全脚本 / A completion script: eval "$(scripts/cardctl completion bash)"."""
    sys.stdout.write(bash_script(context.find_root().command))


def bash_script(root: click.Command) -> str:
    """Return the completion of a command and all below it."""
    commands = dict(_commands(root, ""))
    parts = {
        "@COMMANDS@": " | ".join(f"'{path}'" for path in commands if path),
        "@VALUES@": "\n".join(line for path, command in commands.items() for line in _values(path, command)),
        "@WORDS@": "\n".join(_words(path, command) for path, command in commands.items()),
    }
    return re.sub("@[A-Z]+@", lambda name: parts[name[0]], _BASH)


def _words(path: str, command: click.Command) -> str:
    """Return what may come next: options once a dash is typed, else what is below; nothing leaves it to file names."""
    below = [name for name, _command in _below(command)]
    for argument in command.params:
        below += _choices(argument) if isinstance(argument, click.Argument) else []
    options = [name for option in _options(command) for name in option.opts]
    flags = " ".join([*options, "--help"])
    indent = " " * 16
    return (
        f"{indent}'{path}')\n"
        f"{indent}    if [[ $current == -* ]]; then words='{flags}'; else words='{' '.join(below)}'; fi\n"
        f"{indent}    ;;"
    )


def _values(path: str, command: click.Command) -> Iterator[str]:
    """Yield what may follow each option that takes a value."""
    for option in _options(command):
        if not option.is_flag:
            patterns = " | ".join(f"'{path} {name}'" for name in option.opts)
            yield f"        {patterns}) words='{' '.join(_choices(option))}' ;;"


def _options(command: click.Command) -> list[click.Option]:
    return [param for param in command.params if isinstance(param, click.Option) and not param.hidden]


def _choices(parameter: click.Parameter) -> list[str]:
    return list(parameter.type.choices) if isinstance(parameter.type, click.Choice) else []


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield each command by its words, each after a space."""
    yield path, command
    for name, below in _below(command):
        yield from _commands(below, f"{path} {name}")


def _below(command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if found := command.get_command(context, name):
                yield name, found
