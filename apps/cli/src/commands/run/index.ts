import type { CommandBundle } from '@backend.ai/cli-kit';
import { RunCode } from './run-code.ts';
import { RunFile } from './run-file.ts';

export const commands: CommandBundle['commands'] = [RunCode, RunFile];
