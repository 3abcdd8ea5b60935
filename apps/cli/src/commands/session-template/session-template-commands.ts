import { resolve } from 'node:path';
import { ApiCommand, writeTable } from '@backend.ai/cli-kit';
import { Command, Option } from 'clipanion';
import { onlyGiven, readText } from '../../session-creating-command.ts';

const category = 'Sessions';
const fileOption = { required: true, description: 'JSON or YAML file with what it says' } as const;

export class SessionTemplateList extends ApiCommand {
  static override paths = [['session-template', 'list']];
  static override usage = Command.Usage({
    category,
    description: 'List your session templates',
    examples: [['All', '$0 session-template list']],
  });

  override async perform(): Promise<undefined> {
    const templates = await (await this.connect()).sessionTemplates.list();
    if (this.json) return void this.printJson({ templates });
    if (templates.length === 0) return void this.say('There are none.');
    const rows = templates.map(({ name, id, project, session, createdAt }) => [
      name,
      session.image,
      project,
      createdAt,
      id,
    ]);
    writeTable(this.context.stdout, ['NAME', 'IMAGE', 'GROUP', 'CREATED', 'ID'], rows);
  }
}

export class SessionTemplateGet extends ApiCommand {
  static override paths = [['session-template', 'get']];
  static override usage = Command.Usage({
    category,
    description: 'Print a session template as JSON',
    examples: [['One', '$0 session-template get my-template']],
  });

  template = Option.String({ name: 'TEMPLATE', required: true });

  override async perform(): Promise<undefined> {
    const found = await (await this.connect()).sessionTemplates.get(this.template);
    if (this.json) return void this.printJson({ template: found });
    this.context.stdout.write(`${JSON.stringify(found.template, null, 2)}\n`);
  }
}

export class SessionTemplateCreate extends ApiCommand {
  static override paths = [['session-template', 'create']];
  static override usage = Command.Usage({
    category,
    description: 'Store what sessions are made of: one template, or a list of them',
    examples: [['From a file', '$0 session-template create -f template.yaml']],
  });

  file = Option.String('-f,--file', fileOption);
  group = Option.String('-g,--group', { description: 'Project of its sessions' });
  domain = Option.String('-d,--domain', { description: 'Domain of the project' });

  override async perform(): Promise<undefined> {
    const payload = readText('--file', resolve(this.context.cwd, this.file));
    const where = onlyGiven({ project: this.group, domain: this.domain });
    const templates = await (await this.connect()).sessionTemplates.create({ payload, ...where });
    if (this.json) return void this.printJson({ templates });
    for (const { name, id } of templates) this.say(`Template ${name}: ${id}`);
  }
}

export class SessionTemplateUpdate extends ApiCommand {
  static override paths = [['session-template', 'update']];
  static override usage = Command.Usage({
    category,
    description: 'Put another template in place of one',
    examples: [['From a file', '$0 session-template update my-template -f template.yaml']],
  });

  file = Option.String('-f,--file', fileOption);
  template = Option.String({ name: 'TEMPLATE', required: true });

  override async perform(): Promise<undefined> {
    const payload = readText('--file', resolve(this.context.cwd, this.file));
    const template = await (await this.connect()).sessionTemplates.modify(this.template, payload);
    if (this.json) return void this.printJson({ template });
    this.say(`Template ${template.name}: ${template.id}`);
  }
}

export class SessionTemplateDelete extends ApiCommand {
  static override paths = [['session-template', 'delete']];
  static override usage = Command.Usage({
    category,
    description: 'Delete a session template; sessions made of it stay',
    examples: [['One', '$0 session-template delete my-template']],
  });

  template = Option.String({ name: 'TEMPLATE', required: true });

  override async perform(): Promise<undefined> {
    await (await this.connect()).sessionTemplates.delete(this.template);
    if (this.json) return void this.printJson({ deleted: this.template });
    this.say(`The session template ${this.template} is deleted.`);
  }
}
