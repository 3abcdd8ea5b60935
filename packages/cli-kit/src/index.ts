export { ApiCommand } from './api-command.ts';
export { BaseCommand } from './base-command.ts';
export { binaryName } from './cli.ts';
export type { CommandBundle, RunnableBundle } from './command-bundle.ts';
export type { Component, ConfiguredComponent, OpenDependencies, StartContext } from './component/component.ts';
export { ComponentCommand } from './component/component-command.ts';
export { componentCommands } from './component/component-commands.ts';
export { configCommands } from './component/config-commands.ts';
export { type CliContext, processContext } from './context.ts';
export { type HelpTexts, renderHelp } from './help-texts.ts';
export {
  type ClusterFlags,
  dataDirectory,
  type Env,
  embeddedFile,
  type FoundCluster,
  findCluster,
  forgetLogin,
  type KnownCluster,
  loginFile,
  readCluster,
  saveLogin,
} from './known-cluster.ts';
export { parseDurationMs, parsePairs, parsePort, parseSpanMs, parseWhole } from './option-values.ts';
export { explain, writeError, writeFields, writeJson, writeTable } from './output.ts';
export { main, runCommands } from './run-commands.ts';
export { quoteWord, quoteWords } from './shell-words.ts';
