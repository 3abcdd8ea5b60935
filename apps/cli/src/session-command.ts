import { ApiCommand } from '@backend.ai/cli-kit';
import type { Session, SessionView } from '@backend.ai/client';
import { Option } from 'clipanion';
import { reasonOf } from './session-texts.ts';

/** A command about one session. */
export abstract class SessionCommand extends ApiCommand {
  session = Option.String({ name: 'NAME', required: true });

  protected async open(): Promise<Session> {
    return (await this.connect()).sessions.get(this.session);
  }
}

/** Shows on stderr why a session does not run yet, once per change. Short waits are not worth a line. */
export function waitingLine(write: (text: string) => void): (view: SessionView) => void {
  let first = true;
  return (view) => {
    const progressing = view.status !== 'PENDING' || view.reason.code === 'queued';
    if (first && progressing) {
      first = false;
      return;
    }
    first = false;
    write(
      view.status === 'PENDING' ? `waiting: ${reasonOf(view)}\n` : `${view.status.toLowerCase()}: ${reasonOf(view)}\n`,
    );
  };
}
