import { writeFields, writeTable } from '@backend.ai/cli-kit';
import { amountForPeople, amountFromText } from '@backend.ai/core';
import { Command } from 'clipanion';
import type { AgentStatusView } from '../agent.ts';
import { AgentCommand } from './agent-command.ts';

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
      ['Registration', status.registration],
      [
        'Sandbox',
        `${isolation.sandbox}, ${isolation.ownUid ? 'a user id for each kernel' : 'the same user id for all'}`,
      ],
      ['Memory limit', isolation.memory],
      ['Process limit', isolation.processes],
      ['CPU limit', isolation.cpu],
      ['Network', isolation.network],
      ['In use', amounts(status)],
      ['Images', status.images.map((image) => image.name).join(', ')],
      ['Unreported events', String(status.outboxDepth)],
    ]);
    this.say('');
    if (status.kernels.length === 0) this.say('No kernels.');
    else {
      const rows = status.kernels.map((kernel) => [
        kernel.kernelId,
        kernel.sessionId,
        kernel.state,
        slotsForPeople(kernel.slots),
      ]);
      writeTable(this.context.stdout, ['kernel', 'session', 'state', 'resources'], rows);
    }
    return 0;
  }
}

/** `cpu 1 of 4, mem 512m of 8g` */
function amounts({ capacity, used }: AgentStatusView): string {
  const shown = (slot: string, text: string): string => amountForPeople(slot, amountFromText(text));
  return Object.entries(capacity)
    .map(([slot, text]) => `${slot} ${shown(slot, used[slot] ?? '0')} of ${shown(slot, text)}`)
    .join(', ');
}

function slotsForPeople(slots: Readonly<Record<string, string>>): string {
  return Object.entries(slots)
    .map(([slot, text]) => `${slot} ${amountForPeople(slot, amountFromText(text))}`)
    .join(', ');
}
