import { type CommandBundle, configCommands } from '@backend.ai/cli-kit';
import type { ConfigDefinition, ConfigShape } from '@backend.ai/runtime';
import { absentComponent } from './absent-component.ts';
import {
  coordinatorConfiguration,
  storageConfiguration,
  webConfiguration,
  workerConfiguration,
} from './configurations.ts';

/** A component that operators know and that this version does not have yet: all of it but its configuration. */
function absent<Shape extends ConfigShape>(
  title: string,
  configuration: ConfigDefinition<Shape>,
): CommandBundle['commands'] {
  return [
    ...configCommands({ title, version: '(not part of this version)', configuration }),
    absentComponent(configuration.command, title.charAt(0).toLowerCase() + title.slice(1)),
  ];
}

export const commands: CommandBundle['commands'] = [
  ...absent('Storage proxy', storageConfiguration),
  ...absent('Web server', webConfiguration),
  ...absent('App proxy coordinator', coordinatorConfiguration),
  ...absent('App proxy worker', workerConfiguration),
];
