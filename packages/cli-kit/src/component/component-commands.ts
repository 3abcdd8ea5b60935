import type { ConfigShape } from '@backend.ai/runtime';
import type { CommandClass } from 'clipanion';
import type { CliContext } from '../context.ts';
import type { Component } from './component.ts';
import { configCommands } from './config-commands.ts';
import { healthCommand } from './health-command.ts';
import { startServerCommand } from './start-server-command.ts';

/** What every component has: `start-server`, `health`, `config show`, `config check`. */
export function componentCommands<Shape extends ConfigShape>(component: Component<Shape>): CommandClass<CliContext>[] {
  return [startServerCommand(component), healthCommand(component), ...configCommands(component)];
}
