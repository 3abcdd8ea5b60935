import { ApiCommand, parsePairs } from '@backend.ai/cli-kit';
import type { CreateSessionOptions } from '@backend.ai/client';
import { Option } from 'clipanion';

/** A command that makes a session: what sessions are made with. */
export abstract class SessionCreatingCommand extends ApiCommand {
  resources = Option.Array('-r,--resources', [], { description: 'Amount of a resource: cpu=1, mem=512m' });
  environ = Option.Array('-e,--env', [], { description: 'Environment variable: NAME=VALUE' });
  name = Option.String('-t,--name,--session', { description: 'Name of the session' });
  tag = Option.String('--tag', { description: 'A word to recognise sessions by' });
  group = Option.String('-g,--group', { description: 'Project that owns the session' });
  resourceGroup = Option.String('--scaling-group,--resource-group', { description: 'Agents to choose from' });
  architecture = Option.String('--arch,--architecture', { description: 'Of the image: x86_64, aarch64' });
  image = Option.String({ name: 'IMAGE', required: true });

  /** @throws UsageError when an option is not NAME=VALUE */
  protected get createOptions(): CreateSessionOptions {
    const { image, name, tag, group, resourceGroup, architecture } = this;
    return {
      image,
      resources: parsePairs('-r', this.resources),
      environ: parsePairs('-e', this.environ),
      ...(name === undefined ? {} : { name }),
      ...(tag === undefined ? {} : { tag }),
      ...(group === undefined ? {} : { project: group }),
      ...(resourceGroup === undefined ? {} : { resourceGroup }),
      ...(architecture === undefined ? {} : { architecture }),
    };
  }
}
