import { type CommandBundle, componentCommands } from '@backend.ai/cli-kit';
import { agentComponent } from './component.ts';
import { ListSlotsCommand } from './list-slots.ts';
import { AgentStatusCommand } from './status.ts';
import { SweepCommand } from './sweep.ts';

export const commands: CommandBundle['commands'] = [
  ...componentCommands(agentComponent),
  AgentStatusCommand,
  ListSlotsCommand,
  SweepCommand,
];
