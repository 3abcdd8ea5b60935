import type { CommandBundle } from '@backend.ai/cli-kit';
import { OwnUsage } from './own-usage.ts';

export const commands: CommandBundle['commands'] = [OwnUsage];
