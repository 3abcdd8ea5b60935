import { writeTable } from '@backend.ai/cli-kit';
import { Command } from 'clipanion';
import { SessionCommand } from '../../session-command.ts';

export class SessionIdle extends SessionCommand {
  static override paths = [['session', 'idle']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Show what the idle checkers would say of a session now, and how long it has left',
    details: 'Asking changes nothing. `--json` shows all that a verdict was made of.',
    examples: [['How long it may still stay unused', '$0 session idle my-session']],
  });

  override async perform(): Promise<undefined> {
    const idle = await (await this.open()).idle();
    if (this.json) return void this.printJson({ idle });
    writeTable(
      this.context.stdout,
      ['checker', 'verdict', 'left', 'why'],
      idle.checks.map(({ checker, verdict, remainingMs, remainingKind, explanation }) => [
        checker,
        verdict,
        left(remainingMs, remainingKind),
        explanation,
      ]),
    );
  }
}

function left(remainingMs: number | null, kind: string): string {
  if (remainingMs === null) return '-';
  if (remainingMs <= 0) return 'over';
  const seconds = Math.round(remainingMs / 1000);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  const text = [hours && `${hours}h`, minutes && `${minutes}m`, `${seconds % 60}s`].filter(Boolean).join(' ');
  return kind === 'grace_period' ? `${text} until it is judged` : text;
}
