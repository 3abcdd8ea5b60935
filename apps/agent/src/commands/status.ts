import { writeFields, writeTable } from '@backend.ai/cli-kit';
import { Command } from 'clipanion';
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
      ['Images', status.images.map((image) => image.name).join(', ')],
      ['Unreported events', String(status.outboxDepth)],
    ]);
    this.say('');
    if (status.kernels.length === 0) this.say('No kernels.');
    else {
      const rows = status.kernels.map((kernel) => [kernel.kernelId, kernel.sessionId, kernel.state]);
      writeTable(this.context.stdout, ['kernel', 'session', 'state'], rows);
    }
    return 0;
  }
}
