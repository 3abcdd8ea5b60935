import { writeTable } from '@backend.ai/cli-kit';
import { amountForPeople, amountFromText } from '@backend.ai/core';
import { Command } from 'clipanion';
import { AgentCommand } from './agent-command.ts';

export class ListSlotsCommand extends AgentCommand {
  static override paths = [['ag', 'list-slots']];
  static override usage = Command.Usage({
    category: 'Agent',
    description: 'show what the agent on this machine offers, and how much of it is in use',
    examples: [['Look at it', '$0 ag list-slots']],
  });

  async perform(): Promise<number> {
    const { capacity, used } = await this.status();
    const slots = Object.keys(capacity).map((slot) => ({
      slot,
      capacity: capacity[slot] ?? '0',
      used: used[slot] ?? '0',
    }));
    if (this.json) {
      this.printJson({ slots });
      return 0;
    }
    const amount = (slot: string, text: string): string => amountForPeople(slot, amountFromText(text));
    writeTable(
      this.context.stdout,
      ['slot', 'in use', 'capacity'],
      slots.map((entry) => [entry.slot, amount(entry.slot, entry.used), amount(entry.slot, entry.capacity)]),
    );
    return 0;
  }
}
