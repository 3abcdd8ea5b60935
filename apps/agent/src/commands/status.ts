import { writeFields, writeTable } from '@backend.ai/cli-kit';
import type { Metrics } from '@backend.ai/contract';
import { amountForPeople, amountFromText } from '@backend.ai/core';
import { Command } from 'clipanion';
import type { AgentStatusView } from '../agent-status.ts';
import { AgentCommand } from './agent-command.ts';
import { devicesOf, writeDevices } from './devices.ts';

export class AgentStatusCommand extends AgentCommand {
  static override paths = [['ag', 'status']];
  static override usage = Command.Usage({
    category: 'Agent',
    description: 'show the registration, isolation and kernels of the agent on this machine',
    examples: [['Look at it', '$0 ag status']],
  });

  async perform(): Promise<number> {
    const status = await this.status();
    if (this.json) {
      this.printJson({ ...status });
      return 0;
    }
    const { isolation } = status;
    writeFields(this.context.stdout, [
      ['Agent', `${status.agentId}, version ${status.version}, backend ${status.backend}`],
      ['Registration', registrationText(status.link)],
      ...engineFields(status),
      [
        'Sandbox',
        `${isolation.sandbox}, ${isolation.ownUid ? 'a user id for each kernel' : 'the same user id for all'}`,
      ],
      ['Memory limit', isolation.memory],
      ['Process limit', isolation.processes],
      ['CPU limit', isolation.cpu],
      ['Network', `${isolation.network}${isolation.machine === 'open' ? ', reaches the ports of this machine' : ''}`],
      ['In use', amounts(status)],
      ['Warm slots', warmText(status)],
      ['Machine', machineText(status.machine)],
      ...status.accelerators.map(({ name, state, problem, devices }): [string, string] => [
        `Plugin ${name}`,
        state === 'ready' ? `${devices.length} devices` : `failed: ${problem}`,
      ]),
      ['Images', status.images.map((image) => image.name).join(', ')],
      ['Unreported events', String(status.outboxDepth)],
    ]);
    const devices = devicesOf(status);
    if (devices.length > 0) {
      this.say('');
      writeDevices(this.context.stdout, devices);
    }
    this.say('');
    if (status.kernels.length === 0) this.say('No kernels.');
    else {
      const rows = status.kernels.map((kernel) => [
        kernel.kernelId,
        kernel.sessionId,
        kernel.unknown ? `${kernel.state === 'terminating' ? 'terminating, ' : ''}unknown` : kernel.state,
        slotsForPeople(kernel.slots),
        ...useOf(status, kernel.kernelId),
      ]);
      writeTable(
        this.context.stdout,
        ['kernel', 'session', 'state', 'resources', 'cpu', 'memory', 'disk r/w', 'accelerators'],
        rows,
      );
    }
    return 0;
  }
}

/** `registered at ws://… since …, last heartbeat …`; why not, where it is not. */
export function registrationText({ state, manager, since, lastHeartbeat, lastError }: AgentStatusView['link']): string {
  if (state !== 'registered') return lastError === null ? state : `${state}: ${lastError}`;
  const place = `${manager === null ? '' : ` at ${manager}`}${since === null ? '' : ` since ${since}`}`;
  return `${state}${place}, last heartbeat ${lastHeartbeat ?? 'not yet'}`;
}

/** Kernels that were started ahead: `3 ready, 1 starting` */
function engineFields({ backend, outage, unusedEngine }: AgentStatusView): Array<readonly [string, string]> {
  const text = backend === 'docker' ? (outage ?? 'answers') : unusedEngine;
  return text === null ? [] : [['Container engine', text]];
}

function warmText({ warmSlots = [] }: AgentStatusView): string {
  const counts = new Map<string, number>();
  for (const { state } of warmSlots) counts.set(state, (counts.get(state) ?? 0) + 1);
  return [...counts].map(([state, count]) => `${count} ${state}`).join(', ') || 'none';
}

/** `cpu 1 of 4, mem 512m of 8g` */
function amounts({ capacity, used }: AgentStatusView): string {
  const shown = (slot: string, text: string): string => amountForPeople(slot, amountFromText(text));
  return Object.entries(capacity)
    .map(([slot, text]) => `${slot} ${shown(slot, used[slot] ?? '0')} of ${shown(slot, text)}`)
    .join(', ');
}

/** Processor time as seconds per second of all cores. */
function machineText(metrics: Metrics): string {
  const { cpu_util: cpu, mem, disk, net_rx: received, net_tx: sent } = metrics;
  const parts = [
    cpu?.capacity ? `cpu ${(cpu.current / cpu.capacity).toFixed(2)} cores` : null,
    mem && `memory ${bytes(mem.current)} of ${bytes(mem.capacity ?? 0)}`,
    disk && `disk ${bytes(disk.current)} of ${bytes(disk.capacity ?? 0)}`,
    received && sent && `network ${bytes(received.current)}/s in, ${bytes(sent.current)}/s out`,
    devicesText(metrics),
  ];
  return parts.filter((part) => typeof part === 'string').join(', ') || 'not measured yet';
}

function useOf({ measurements }: AgentStatusView, kernelId: string): string[] {
  const { metrics = {} } = measurements.find((each) => each.kernelId === kernelId) ?? {};
  const { cpu_util: cpu, mem, io_read: read, io_write: written } = metrics;
  return [
    cpu ? `${(cpu.current / 10).toFixed(1)}%` : '-',
    mem ? bytes(mem.current) : '-',
    read && written ? `${bytes(read.current)}/${bytes(written.current)}` : '-',
    devicesText(metrics) ?? '-',
  ];
}

/** `cuda 35.0% 512m of 2g`; null: nothing is measured. */
function devicesText(metrics: Metrics): string | null {
  const keys = Object.keys(metrics).flatMap((name) => /^(?!cpu_)(.+)_(?:util|mem)$/.exec(name)?.[1] ?? []);
  const texts = [...new Set(keys)].map((key) => {
    const [use, mem] = [metrics[`${key}_util`], metrics[`${key}_mem`]];
    const percent = use?.capacity ? ` ${((use.current / use.capacity) * 100).toFixed(1)}%` : '';
    return `${key}${percent}${mem ? ` ${bytes(mem.current)} of ${bytes(mem.capacity ?? 0)}` : ''}`;
  });
  return texts.join(', ') || null;
}

function bytes(value: number): string {
  return amountForPeople('mem', BigInt(Math.round(value)) * 1000n);
}

function slotsForPeople(slots: Readonly<Record<string, string>>): string {
  return Object.entries(slots)
    .map(([slot, text]) => `${slot} ${amountForPeople(slot, amountFromText(text))}`)
    .join(', ');
}
