"""`cardctl completion`: a script that completes by itself.

click's own completion starts the program at each Tab, which here means a process in a container.
"""

import sys
from collections.abc import Iterator

import click

_BASH = """\
# Completion of cardctl for bash: eval "$(scripts/cardctl completion bash)", or keep it in a file that bash sources.
# zsh (tried with 5.9) sources it after: autoload -U compinit bashcompinit && compinit && bashcompinit
_cardctl() {{
    local command='' word words='' current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}}
    COMPREPLY=()
    for word in "${{COMP_WORDS[@]:1:$((COMP_CWORD - 1))}}"; do
        case "$command $word" in
            {commands}) command="$command $word" ;;
        esac
    done
    case "$command:$before:$current" in
{cases}
    esac
    local IFS=$' \\t\\n'
    while read -r word; do COMPREPLY+=("$word"); done < <(compgen -W "$words" -- "$current")
}}
complete -o default -F _cardctl cardctl
"""


@click.command()
@click.argument("shell", type=click.Choice(["bash"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:  # noqa: ARG001  # there is one
    """补全脚本 / Print a completion script: eval "$(scripts/cardctl completion bash)"."""
    sys.stdout.write(bash_script(context.find_root().command))


def bash_script(root: click.Command) -> str:
    """Return the completion script of a command and its subcommands."""
    commands = dict(_commands(root, ""))
    cases = (
        f"        {pattern}) words='{' '.join(words)}' ;;"
        for path, command in commands.items()
        for pattern, words in _cases(path, command)
    )
    return _BASH.format(commands=" | ".join(f"'{path}'" for path in commands if path), cases="\n".join(cases))


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and its subcommands by their words, each after a space."""
    yield path, command
    for name, subcommand in _subcommands(command).items():
        yield from _commands(subcommand, f"{path} {name}")


def _subcommands(command: click.Command) -> dict[str, click.Command]:
    if not isinstance(command, click.Group):
        return {}
    context = click.Context(command)
    return {name: found for name in command.list_commands(context) if (found := command.get_command(context, name))}


def _cases(path: str, command: click.Command) -> Iterator[tuple[str, list[str]]]:
    """Yield patterns of "command:word before:current word" and the words that complete the current one.

    The values of an option come first, then the options, then subcommands and arguments. Without words bash completes
    file names.
    """
    options = [param for param in command.params if isinstance(param, click.Option) and not param.hidden]
    for option in options:
        if not option.is_flag:
            yield " | ".join(f"'{path}:{name}:'*" for name in option.opts), _choices(option)
    yield f"'{path}:'*:-*", [*(name for option in options for name in option.opts), "--help"]
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    yield f"'{path}:'*", [*_subcommands(command), *(word for argument in arguments for word in _choices(argument))]


def _choices(parameter: click.Parameter) -> list[str]:
    return list(parameter.type.choices) if isinstance(parameter.type, click.Choice) else []
