import { resolve } from 'node:path';
import { ApiCommand, type FoundCluster, quoteWord, readCluster, writeFields, writeTable } from '@backend.ai/cli-kit';
import type { ClusterStatus } from '@backend.ai/client';
import { AppError, amountForPeople, amountFromText } from '@backend.ai/core';
import { Command, Option } from 'clipanion';
import { dataDirectory } from '../data-directory.ts';

export class StatusCommand extends ApiCommand {
  static override paths = [['status']];
  static override usage = Command.Usage({
    category: 'Cluster',
    description: 'show the cluster: agents, resources in use, sessions',
    examples: [
      ['Look at it', '$0 status'],
      ['The embedded cluster of a folder', '$0 status --data-dir /var/tmp/mine'],
    ],
  });

  dataDir = Option.String('--data-dir', {
    description: 'Ask the embedded cluster of this folder, whatever login is saved',
  });

  /** @throws AppError `auth-missing` when no cluster has run on the folder */
  protected override async findCluster(): Promise<FoundCluster> {
    if (this.dataDir === undefined) return await super.findCluster();
    const { root, credentialsFile } = dataDirectory(resolve(this.context.cwd, this.dataDir));
    const cluster = await readCluster(credentialsFile);
    if (cluster) return { ...cluster, fromLogin: false };
    throw new AppError('auth-missing', `No cluster has run on ${root}.`, {
      hint: `Start one with: ./backend.ai up --detach --data-dir ${quoteWord(root)}`,
    });
  }

  async perform(): Promise<number> {
    const client = await this.connect();
    const status = await client.cluster.status();
    if (this.json) {
      this.printJson({ endpoint: client.endpoint, ...status });
      return 0;
    }
    const amount = (slot: string, text: string): string => amountForPeople(slot, amountFromText(text));
    const resources = Object.entries(status.capacity).map(
      ([slot, all]) => `${slot} ${amount(slot, status.used[slot] ?? '0')} of ${amount(slot, all)}`,
    );
    const sessions = Object.entries(status.sessions).map(([name, count]) => `${count} ${name}`);
    writeFields(this.context.stdout, [
      ['Cluster', `${client.endpoint}, version ${status.version}${status.embedded ? ', embedded' : ''}`],
      ['Since', status.startedAt],
      ['In use', resources.join(', ') || 'nothing to use: no agent has joined'],
      ['Sessions', sessions.join(', ') || 'none'],
    ]);
    this.say('');
    writeTable(
      this.context.stdout,
      ['agent', 'status', 'backend', 'sandbox', 'machine', 'images', 'last heartbeat'],
      status.agents.map((agent) => [
        agent.id,
        agent.status,
        agent.backend,
        agent.isolation.sandbox,
        machineText(agent.machine),
        agent.images.join(' '),
        agent.lastHeartbeat,
      ]),
    );
    return 0;
  }
}

/** How much of it is busy: all cores together, memory, the disk of the agent's data. */
function machineText(machine: ClusterStatus['agents'][number]['machine']): string {
  const { cpu_util: cpu, mem, disk } = machine ?? {};
  const parts = [
    cpu?.capacity ? `cpu ${(cpu.current / cpu.capacity).toFixed(1)} cores` : null,
    mem?.capacity ? `mem ${Math.round((mem.current / mem.capacity) * 100)}%` : null,
    disk?.capacity ? `disk ${Math.round((disk.current / disk.capacity) * 100)}%` : null,
  ];
  return parts.filter((part) => part !== null).join(', ') || '-';
}
