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

/**
 * Tells on stderr why a session does not run yet, once per change, and at first who knows more. A start that proceeds
 * needs no words.
 */
export function waitingLine(write: (text: string) => void): (view: SessionView) => void {
  let pointed = false;
  let isPulling = false;
  return (view) => {
    if (view.status === 'PENDING' && view.reason.code !== 'queued') {
      write(`waiting: ${reasonOf(view)}\n`);
      if (!pointed) write(`  more: ./backend.ai session explain ${view.name}\n`);
      pointed = true;
    }
    if (view.status === 'PULLING' && !isPulling) write(`waiting: The image ${view.image} is being fetched.\n`);
    isPulling = view.status === 'PULLING';
  };
}
