"""`faceprivacy completion SHELL`: what makes a shell complete commands and options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from .console import say

PROGRAM = "faceprivacy"
HOW = {
    "bash": "add to ~/.bashrc: eval \"$(faceprivacy completion bash)\"",
    "zsh": "add to ~/.zshrc: eval \"$(faceprivacy completion zsh)\"",
    "fish": "faceprivacy completion fish > ~/.config/fish/completions/faceprivacy.fish",
}  # fmt: skip


def add_parser(commands: Any) -> None:
    """Add this command to the program's parser."""
    parser = commands.add_parser(
        "completion",
        help="complete commands and options in a shell",
        description="Writes a script that completes the commands and options of this program. " + "; ".join(HOW.values()) + ".",
    )
    parser.add_argument("shell", choices=HOW, help="which shell")
    parser.set_defaults(run=lambda args: run(args, commands))


def run(args: argparse.Namespace, commands: Any) -> int:
    """Write the script.

    Args:
        args: Of the command.
        commands: All commands of the program, as argparse keeps them.
    """
    say(SCRIPTS[args.shell](commands))
    return 0


def words_of(parser: argparse.ArgumentParser) -> list[str]:
    """Return what may follow a command: its options, and its actions where it has some."""
    words: list[str] = []
    for action in parser._actions:
        words += [option for option in action.option_strings if option.startswith("--")]
        if isinstance(action.choices, dict):
            words += action.choices
    return words


def bash_script(commands: Any) -> str:
    """Return the script for bash, which zsh reads, too."""
    cases = "\n".join(f"        {name}) words='{' '.join(words_of(parser))}' ;;" for name, parser in commands.choices.items())
    return f"""_{PROGRAM}() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" words=''
    if [ "$COMP_CWORD" -eq 1 ]; then words='{" ".join(commands.choices)} --help --version'
    else case "${{COMP_WORDS[1]}}" in
{cases}
    esac; fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _{PROGRAM} {PROGRAM}"""


def zsh_script(commands: Any) -> str:
    """Return the script for zsh."""
    return "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n" + bash_script(commands)


def fish_script(commands: Any) -> str:
    """Return the script for fish."""
    lines = []
    helps = {choice.dest: (choice.help or "").replace("'", "\\'") for choice in commands._choices_actions}
    for name, parser in commands.choices.items():
        lines.append(f"complete -c {PROGRAM} -n __fish_use_subcommand -f -a {name} -d '{helps.get(name, '')}'")
        for word in words_of(parser):
            option = f"-l {word[2:]}" if word.startswith("--") else f"-f -a {word}"
            lines.append(f"complete -c {PROGRAM} -n '__fish_seen_subcommand_from {name}' {option}")
    return "\n".join(lines)


SCRIPTS: dict[str, Callable[[Any], str]] = {"bash": bash_script, "zsh": zsh_script, "fish": fish_script}
