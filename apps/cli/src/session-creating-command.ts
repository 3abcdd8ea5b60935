import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { ApiCommand, parsePairs, parseWhole } from '@backend.ai/cli-kit';
import type { Client, CreateSessionOptions, Session } from '@backend.ai/client';
import { Option, UsageError } from 'clipanion';
import { inOptionWords, type OptionOfField } from './option-words.ts';

/** A command that makes a session: what sessions are made with. */
export abstract class SessionCreatingCommand extends ApiCommand {
  resources = Option.Array('-r,--resources', [], { description: 'Amount of a resource: cpu=1, mem=512m' });
  environ = Option.Array('-e,--env', [], { description: 'Environment variable: NAME=VALUE' });
  name = Option.String('-t,--name,--session', { description: 'Name of the session' });
  tag = Option.String('--tag', { description: 'A word to recognise sessions by' });
  group = Option.String('-g,--group', { description: 'Project that owns the session' });
  resourceGroup = Option.String('--scaling-group,--resource-group', { description: 'Agents to choose from' });
  domain = Option.String('--domain', { description: 'Domain of the project' });
  priority = Option.String('--priority', { description: '0 to 100, 10 by itself; higher ones are considered first' });
  jobPriority = Option.String('--job-priority', {
    description: '0 to 100, 0 by itself; it may take the place of lower ones where the group preempts',
  });
  clusterSize = Option.String('--cluster-size', { description: 'Number of kernels: one main, the others sub' });
  clusterMode = Option.String('--cluster-mode', { description: 'single-node: all on one machine; or multi-node' });
  resourceOpts = Option.Array('--resource-opts', [], { description: 'shmem=64m: how much of the memory is shared' });
  bootstrap = Option.String('-b,--bootstrap-script', { description: 'File with a shell script to begin with' });
  preopen = Option.Array('--preopen', [], {
    description: 'Port that programs will listen on; also several: 8080,9090',
  });
  callbackUrl = Option.String('--callback-url', { description: 'URL to be told of each change of state' });
  agents = Option.Array('--assign-agent', [], { description: 'Id of the agent to be on (superadmins)' });
  tolerant = Option.Boolean('--tolerant', false, {
    description: 'It goes on when a kernel other than the main one ends',
  });
  noPreempt = Option.Boolean('--no-preempt', false, { description: 'It never makes room for others' });
  architecture = Option.String('--arch,--architecture', { description: 'Of the image: x86_64, aarch64' });
  image = Option.String({ name: 'IMAGE', required: true });

  /** @throws UsageError when an option has not the form it needs */
  protected get createOptions(): CreateSessionOptions {
    const { image, name, tag, group, domain, resourceGroup, architecture, callbackUrl, clusterMode } = this;
    const wanted = {
      image,
      resources: parsePairs('-r', this.resources),
      environ: parsePairs('-e', this.environ),
      name,
      tag,
      project: group,
      domain,
      resourceGroup,
      architecture,
      callbackUrl,
      clusterMode: clusterMode === undefined ? undefined : parseClusterMode(clusterMode),
      clusterSize: parseWhole('--cluster-size', this.clusterSize),
      priority: parseWhole('--priority', this.priority),
      jobPriority: parseWhole('--job-priority', this.jobPriority),
      isPreemptible: this.noPreempt ? false : undefined,
      failurePolicy: this.tolerant ? ('tolerant' as const) : undefined,
      resourceOpts: this.resourceOpts.length === 0 ? undefined : parsePairs('--resource-opts', this.resourceOpts),
      bootstrapScript:
        this.bootstrap === undefined
          ? undefined
          : readText('--bootstrap-script', resolve(this.context.cwd, this.bootstrap)),
      preopenPorts: listed(this.preopen)?.map((port) => parseWhole('--preopen', port)),
      designatedAgents: listed(this.agents),
    };
    return onlyGiven(wanted) as CreateSessionOptions;
  }

  protected createSession(client: Client, options: CreateSessionOptions): Promise<Session> {
    return inOptionWords(client.sessions.create(options), optionOf, this);
  }
}

const optionOf: OptionOfField = {
  image: 'IMAGE',
  resources: '-r',
  environ: '-e',
  name: '--name',
  tag: '--tag',
  project: '--group',
  domain: '--domain',
  resourceGroup: '--scaling-group',
  architecture: '--architecture',
  callbackUrl: '--callback-url',
  clusterMode: '--cluster-mode',
  clusterSize: '--cluster-size',
  priority: '--priority',
  jobPriority: '--job-priority',
  resourceOpts: '--resource-opts',
  bootstrapScript: '--bootstrap-script',
  preopenPorts: '--preopen',
  designatedAgents: '--assign-agent',
  startupCommand: '--startup-command',
  startsAt: '--starts-at',
  timeoutMs: '--batch-timeout',
  dependencies: '--depends',
};

/** Several values of an option, or one with commas; undefined when it was not given. */
export function listed(values: readonly string[]): string[] | undefined {
  const items = values.flatMap((value) => value.split(',')).map((item) => item.trim());
  return items.length === 0 ? undefined : items.filter((item) => item !== '');
}

/** Without what was not asked for: the server knows the defaults. */
export function onlyGiven(values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

function parseClusterMode(text: string): 'single-node' | 'multi-node' {
  const mode = text.toLowerCase().replaceAll('_', '-');
  if (mode === 'single-node' || mode === 'multi-node') return mode;
  throw new UsageError(`--cluster-mode takes single-node or multi-node, not "${text}".`);
}

/** @throws UsageError naming the option when the file cannot be read */
export function readText(option: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (thrown) {
    throw new UsageError(`${option}: ${path} cannot be read (${(thrown as NodeJS.ErrnoException).code}).`);
  }
}
