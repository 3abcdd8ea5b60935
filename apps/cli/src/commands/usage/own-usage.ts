import type { Client } from '@backend.ai/client';
import { Command } from 'clipanion';
import { UsageCommand } from './usage-command.ts';

export class OwnUsage extends UsageCommand {
  static override paths = [['usage']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Show what you used: resources times the time that your sessions held them',
    examples: [
      ['The last 30 days, by project', '$0 usage'],
      ['One month day by day, for a spreadsheet', '$0 usage --from 2025-01-01 --to 2025-02-01 --period day --csv'],
      ['As a picture', '$0 usage --from 2w --plot usage.svg'],
    ],
  });

  protected override async select(client: Client): Promise<{ by: 'project'; user: string }> {
    return { by: 'project', user: (await client.auth.whoami()).email };
  }
}
