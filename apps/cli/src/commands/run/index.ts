import type { CommandBundle } from '@backend.ai/cli-kit';
import { RunCode } from './run-code.ts';
import { RunFile } from './run-file.ts';
import { RunSteps } from './run-steps.ts';

export const commands: CommandBundle['commands'] = [RunCode, RunSteps, RunFile];
