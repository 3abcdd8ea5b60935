import { parsePairs } from '@backend.ai/cli-kit';
import type { CreateSessionOptions } from '@backend.ai/client';
import { Option } from 'clipanion';

/** What sessions are made with, as options of every command that makes one. Called from field initialisers. */
export const sessionOptions = {
  resources: () => Option.Array('-r,--resources', [], { description: 'Amount of a resource: cpu=1, mem=512m' }),
  environ: () => Option.Array('-e,--env', [], { description: 'Environment variable: NAME=VALUE' }),
  name: () => Option.String('-t,--name,--session', { description: 'Name of the session' }),
  tag: () => Option.String('--tag', { description: 'A word to recognise sessions by' }),
  group: () => Option.String('-g,--group', { description: 'Project that owns the session' }),
  resourceGroup: () => Option.String('--scaling-group,--resource-group', { description: 'Agents to choose from' }),
  architecture: () => Option.String('--arch,--architecture', { description: 'Of the image: x86_64, aarch64' }),
};

export interface SessionOptionValues {
  readonly image: string;
  readonly resources: readonly string[];
  readonly environ: readonly string[];
  readonly name: string | undefined;
  readonly tag: string | undefined;
  readonly group: string | undefined;
  readonly resourceGroup: string | undefined;
  readonly architecture: string | undefined;
}

/** @throws UsageError when an option is not NAME=VALUE */
export function toCreateOptions(values: SessionOptionValues): CreateSessionOptions {
  const { image, name, tag, group, resourceGroup, architecture } = values;
  return {
    image,
    resources: parsePairs('-r', values.resources),
    environ: parsePairs('-e', values.environ),
    ...(name === undefined ? {} : { name }),
    ...(tag === undefined ? {} : { tag }),
    ...(group === undefined ? {} : { project: group }),
    ...(resourceGroup === undefined ? {} : { resourceGroup }),
    ...(architecture === undefined ? {} : { architecture }),
  };
}
