import type { CommandBundle } from '@backend.ai/cli-kit';
import { BootstrapScriptGet, BootstrapScriptSet } from './bootstrap-script-commands.ts';
import { DotfileCreate, DotfileDelete, DotfileGet, DotfileList, DotfileUpdate } from './dotfile-commands.ts';

export const commands: CommandBundle['commands'] = [
  DotfileList,
  DotfileGet,
  DotfileCreate,
  DotfileUpdate,
  DotfileDelete,
  BootstrapScriptGet,
  BootstrapScriptSet,
];
