import { writeTable } from '@backend.ai/cli-kit';
import { amountForPeople, amountFromText, slotTypeOf } from '@backend.ai/core';
import { Command } from 'clipanion';
import { AgentCommand } from './agent-command.ts';
import { devicesOf, writeDevices } from './devices.ts';

export class ListSlotsCommand extends AgentCommand {
  static override paths = [['ag', 'list-slots']];
  static override usage = Command.Usage({
    category: 'Agent',
    description: 'show what the agent on this machine offers, and how much of it is in use',
    examples: [['Look at it', '$0 ag list-slots']],
  });

  async perform(): Promise<number> {
    const { capacity, used, heldDevices, accelerators } = await this.status();
    const described = new Map(accelerators.flatMap((plugin) => plugin.slots.map((slot) => [slot.name, slot])));
    const devices = devicesOf({ heldDevices, accelerators });
    const slots = Object.keys(capacity).map((slot) => ({
      slot,
      capacity: capacity[slot] ?? '0',
      used: used[slot] ?? '0',
      type: described.get(slot)?.type ?? slotTypeOf(slot),
      title: described.get(slot)?.title ?? slot,
    }));
    if (this.json) {
      this.printJson({ slots, devices });
      return 0;
    }
    const amount = (slot: string, text: string): string => amountForPeople(slot, amountFromText(text));
    writeTable(
      this.context.stdout,
      ['slot', 'type', 'in use', 'capacity'],
      slots.map(({ slot, type, ...entry }) => [slot, type, amount(slot, entry.used), amount(slot, entry.capacity)]),
    );
    if (devices.length > 0) {
      this.say('');
      writeDevices(this.context.stdout, devices);
    }
    return 0;
  }
}
