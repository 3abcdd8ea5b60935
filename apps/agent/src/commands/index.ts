import type { CommandBundle } from '@backend.ai/cli-kit';
import { ListSlotsCommand } from './list-slots.ts';
import { AgentStatusCommand } from './status.ts';

export const commands: CommandBundle['commands'] = [AgentStatusCommand, ListSlotsCommand];
