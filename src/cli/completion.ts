import { Argument, type Command, type Option } from "commander";
import { makeCommand } from "./command.js";
import { print } from "./report.js";

const SHELLS = ["bash", "zsh", "fish"] as const;

type Shell = (typeof SHELLS)[number];

const HELP = `
The script completes the commands and their options, and after redlock run …
-- the command that runs under the lock.

Exit status: 0, or 64 for wrong arguments.

Examples:
  echo 'eval "$(redlock completion bash)"' >> ~/.bashrc
  echo 'eval "$(redlock completion zsh)"' >> ~/.zshrc    # after compinit
  redlock completion fish > ~/.config/fish/completions/redlock.fish`;

/** Makes `redlock completion`, which completes whatever the command that it is added to has. */
export function completionCommand(): Command {
  return makeCommand("completion", "print a script that lets a shell complete redlock")
    .description("Prints a script that lets a shell complete the commands and options of redlock.")
    .usage("bash|zsh|fish")
    .addArgument(new Argument("<shell>").choices(SHELLS))
    .addHelpText("after", HELP)
    .action((shell: Shell, _: unknown, { parent }: Command) => {
      const scripts = { bash: inBash, zsh: inZsh, fish: inFish };
      if (parent !== null) print(scripts[shell](parent));
    });
}

/** The visible options of a command, its help included. */
function optionsOf(command: Command): readonly Option[] {
  return command.createHelp().visibleOptions(command);
}

function isFile({ flags }: Option): boolean {
  return flags.includes("<file>");
}

/** What a command's argument may be, if there is a choice. */
function choicesOf(command: Command): readonly string[] {
  return command.registeredArguments.flatMap(({ argChoices = [] }) => argChoices);
}

function inBash(root: Command): string {
  const { commands } = root;
  const options = commands.flatMap(optionsOf);
  const named = (chosen: readonly Option[]): string =>
    [...new Set(chosen.map(({ long }) => long))].join("|");
  const words = (command: Command): string =>
    [...choicesOf(command), ...optionsOf(command).map(({ long }) => long)].join(" ");
  return `_redlock() {
  local cur=\${COMP_WORDS[COMP_CWORD]} words i IFS=$' \\t\\n'
  COMPREPLY=()
  for ((i = 2; i < COMP_CWORD; i++)); do
    if [[ \${COMP_WORDS[i]} == -- ]]; then
      if declare -F _command_offset > /dev/null; then _command_offset $((i + 1)); return; fi
      local of=-f; ((i + 1 == COMP_CWORD)) && of=-c
      IFS=$'\\n'; COMPREPLY=($(compgen $of -- "$cur")); return
    fi
  done
  case \${COMP_WORDS[COMP_CWORD - 1]} in
    ${named(options.filter(isFile))}) compopt -o filenames 2> /dev/null
      IFS=$'\\n'; COMPREPLY=($(compgen -f -- "$cur")); return ;;
    ${named(options.filter((option) => option.required && !isFile(option)))}) return ;;
  esac
  case \${COMP_CWORD}:\${COMP_WORDS[1]} in
    1:*) words="${[...commands.map((command) => command.name()), words(root)].join(" ")}" ;;
${commands.map((command) => `    *:${command.name()}) words="${words(command)}" ;;`).join("\n")}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _redlock redlock`;
}

function inZsh(root: Command): string {
  const { commands } = root;
  const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
  const described = (text: string): string => text.replace(/[[\]:\\]/g, "\\$&");
  const specs = (command: Command): string => {
    const options = optionsOf(command).map((option) => {
      const value = option.required ? `:value:${isFile(option) ? "_files" : " "}` : "";
      return quoted(`${option.long}[${described(option.description)}]${value}`);
    });
    const choices = choicesOf(command);
    const operands = choices.length === 0 ? "'*:name:{:}'" : `'1:one:(${choices.join(" ")})'`;
    return [...options, operands].join(" ");
  };
  const names = commands.map((each) => quoted(`${each.name()}:${described(each.summary())}`));
  return `#compdef redlock
_redlock() {
  local -a redlock_commands=(${names.join(" ")})
  local end=\${words[(i)--]}
  if (( end < CURRENT )); then
    words=("\${(@)words[end + 1,-1]}"); (( CURRENT -= end )); _normal; return
  fi
  if (( CURRENT == 2 )); then
    _describe -t commands command redlock_commands
    [[ $words[2] == -* ]] && _arguments ${specs(root)}
    return
  fi
  local command=$words[2]
  words=("\${(@)words[2,-1]}"); (( CURRENT-- ))
  case $command in
${commands.map((command) => `    ${command.name()}) _arguments ${specs(command)} ;;`).join("\n")}
  esac
}
if [[ $funcstack[1] == _redlock ]]; then _redlock "$@"; else compdef _redlock redlock; fi`;
}

/** What fish would complete if the line began after the `--`. */
const FISH_COMMAND =
  "set -l all (commandline -opc); set -l end (contains -i -- -- $all); " +
  'complete -C (string join " " -- (string escape -- $all[(math $end + 1)..-1]) (commandline -ct))';

function inFish(root: Command): string {
  const quoted = (text: string): string => `'${text.replace(/['\\]/g, "\\$&")}'`;
  const isAfterEnd = "contains -- -- (commandline -opc)";
  const line = (when: string, rest: string): string =>
    `complete -c redlock -n ${quoted(`not ${isAfterEnd}; and ${when}`)} ${rest}`;
  const ofOption = (when: string, option: Option): string => {
    const value = !option.required ? "" : isFile(option) ? " -rF" : " -x";
    return line(when, `-l ${option.long?.slice(2)}${value} -d ${quoted(option.description)}`);
  };
  const first = "__fish_use_subcommand";
  return [
    "complete -c redlock -f",
    `complete -c redlock -n ${quoted(isAfterEnd)} -xa '(${FISH_COMMAND})'`,
    ...optionsOf(root).map((option) => ofOption(first, option)),
    ...root.commands.flatMap((command) => {
      const seen = `__fish_seen_subcommand_from ${command.name()}`;
      const choices = choicesOf(command);
      return [
        line(first, `-a ${command.name()} -d ${quoted(command.summary())}`),
        ...(choices.length === 0 ? [] : [line(seen, `-a ${quoted(choices.join(" "))}`)]),
        ...optionsOf(command).map((option) => ofOption(seen, option)),
      ];
    }),
  ].join("\n");
}
